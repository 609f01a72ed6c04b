//! The command line of the service.

mod caller_token;
mod check_config;
mod dev;
mod healthcheck;
mod migrate;
mod reconcile;
mod serve;
mod service_manager;
mod settings;
mod signals;

use std::{process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

use self::{
    settings::SettingsArgs,
    signals::{Hangup, StopSignals},
};
use crate::{
    build,
    config::LogConfig,
    domain::clock::SystemClock,
    server::{Running, StartError},
    telemetry::logging,
};

/// The gRPC service that owns every tenant decision: customer keys, session bindings, usage.
#[derive(Debug, Parser)]
#[command(version, long_version = build::LONG_VERSION.as_str(), about, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 the command line or the configuration is wrong.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run on this machine for trying out: embedded database, demo tenant and key.
    Dev(dev::DevArgs),
    /// Run in production, configured by TENANT_AUTH_* variables and flags.
    Serve(SettingsArgs),
    /// Bring the database's schema up to date, and end.
    Migrate(SettingsArgs),
    /// Show the configuration in force, or everything that is wrong with it.
    CheckConfig(check_config::CheckArgs),
    /// Compare usage totals with the sums of their events; ends with 1 and a line for each that differs. `--repair` sets them right.
    Reconcile(reconcile::ReconcileArgs),
    /// Make a token for a service that calls, and its hash for the callers file.
    CallerToken,
    /// Ask a running service whether it is ready; for containers.
    Healthcheck(healthcheck::HealthArgs),
}

impl Cli {
    /// Runs the command to its end.
    #[must_use]
    pub fn run(self) -> ExitCode {
        // For everything but connections, which have threads of their own: two are enough to stay answerable.
        let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
        {
            Ok(runtime) => runtime,
            Err(error) => return fail(1, &format!("cannot start threads: {error}")),
        };
        let code = runtime.block_on(async {
            match self.command {
                Command::Dev(args) => dev::run(args).await,
                Command::Serve(args) => serve::run(args).await,
                Command::Migrate(args) => migrate::run(args).await,
                Command::CheckConfig(args) => check_config::run(args).await,
                Command::Reconcile(args) => reconcile::run(args).await,
                Command::CallerToken => caller_token::run(),
                Command::Healthcheck(args) => healthcheck::run(args).await,
            }
        });
        // A look at files on a disk that hangs must not hold up the end.
        runtime.shutdown_background();
        code
    }
}

/// Ends with a message for a person.
fn fail(code: u8, message: &str) -> ExitCode {
    #[expect(clippy::print_stderr, reason = "the last words of a command")]
    {
        eprintln!("error: {message}");
    }
    ExitCode::from(code)
}

/// Tells a person something; the log goes elsewhere.
fn say(text: &str) {
    use std::io::Write as _;
    // Whoever reads may have gone, as in `… | head`: no reason to fail.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Logs from now on, panics too, so that each line is one of the log's.
fn start_logging(config: &LogConfig) -> Logging {
    let (subscriber, log) = logging::subscriber(config, SystemClock::shared(), std::io::stderr);
    // Refused only when a log is set up already, which nobody does before this.
    let _ = tracing::subscriber::set_global_default(subscriber);
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(tracing::field::display);
        // Only words of the code: a text that was put together may quote what the code choked on.
        let why = panic.payload().downcast_ref::<&'static str>();
        tracing::error!(place, why, "a thread panicked");
    }));
    let counting = log.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(COUNTED_EACH).await;
            counting.tell();
        }
    });
    Logging(log)
}

/// How often counts of lines that were left out are looked for.
const COUNTED_EACH: Duration = Duration::from_secs(1);

/// The log of a command; it tells what it left out, at the end.
#[must_use]
struct Logging(logging::Log);

impl Drop for Logging {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// Ends what has a log with a last line in it, as it is read where nobody sees the terminal.
fn failed(error: &impl std::fmt::Display) -> ExitCode {
    if !tracing::enabled!(tracing::Level::ERROR) {
        return fail(1, &error.to_string());
    }
    tracing::error!(%error, "the service cannot go on");
    ExitCode::from(1)
}

/// Serves until a signal asks to stop, or the service has to. A second signal ends the wait for load balancers. A
/// hangup, where one is listened for, has files read anew.
async fn serve_until_stopped(mut running: Running, hangup: Option<Hangup>) -> Result<(), StartError> {
    let mut signals = StopSignals::listen();
    let reload = running.reloader();
    let reloading = async {
        let Some(mut hangup) = hangup else { return std::future::pending().await };
        loop {
            hangup.next().await;
            tracing::info!(signal = "SIGHUP", "looking at certificates and callers");
            service_manager::reloading();
            // Elsewhere: a disk that hangs must not keep a signal to stop from being heard.
            service_manager::reloaded(tokio::task::spawn_blocking(reload.clone()).await.ok());
        }
    };
    let made_ready = running.made_ready();
    let telling = async {
        made_ready.await;
        service_manager::ready();
        std::future::pending().await
    };
    service_manager::serving();
    tokio::select! {
        never = reloading => never,
        never = telling => never,
        error = running.failed() => {
            service_manager::stopping();
            running.stop().await;
            Err(error)
        }
        name = signals.next() => {
            service_manager::stopping();
            tracing::info!(signal = name, "stopping: no longer ready; requests are served until load balancers know");
            let again = async { tracing::info!(signal = signals.next().await, "told again to stop") };
            running.stop_hurried_by(again).await;
            tracing::info!("stopped");
            Ok(())
        }
    }
}
