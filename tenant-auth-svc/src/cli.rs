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
    signals::{HangupSignal, StopSignals},
};
use crate::{
    build,
    config::LogConfig,
    domain::clock::SystemClock,
    server::{RunningService, StartError},
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
fn print_line(text: &str) {
    use std::io::Write as _;
    // Whoever reads may have gone, as in `… | head`: no reason to fail.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Logs from now on, panics too, so that each line is one of the log's.
fn start_logging(config: &LogConfig) -> LogGuard {
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
            tokio::time::sleep(LOG_COUNT_INTERVAL).await;
            counting.flush_due_counts();
        }
    });
    LogGuard(log)
}

/// How often counts of lines that were left out are looked for.
const LOG_COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// The log of a command; it tells what it left out, at the end.
#[must_use]
struct LogGuard(logging::Log);

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// Ends what has a log with a last line in it, as it is read where nobody sees the terminal.
fn log_and_fail(error: &impl std::fmt::Display) -> ExitCode {
    if !tracing::enabled!(tracing::Level::ERROR) {
        return fail(1, &error.to_string());
    }
    tracing::error!(%error, "the service cannot go on");
    ExitCode::from(1)
}

/// Serves until a signal asks to stop, or the service has to. A second signal ends the wait for load balancers. A
/// hangup, where one is listened for, has files read anew.
async fn serve_until_stopped(
    mut running: RunningService,
    hangup: Option<HangupSignal>,
) -> Result<(), StartError> {
    let mut signals = StopSignals::listen();
    let reload = running.reloader();
    let reloading = async {
        let Some(mut hangup) = hangup else { return std::future::pending().await };
        loop {
            hangup.next().await;
            tracing::info!(signal = "SIGHUP", "looking at certificates and callers");
            service_manager::notify_reloading();
            // Elsewhere: a disk that hangs must not keep a signal to stop from being heard.
            service_manager::notify_reloaded(tokio::task::spawn_blocking(reload.clone()).await.ok());
        }
    };
    let made_ready = running.until_ready();
    let telling = async {
        made_ready.await;
        service_manager::notify_ready();
        std::future::pending().await
    };
    service_manager::notify_serving();
    tokio::select! {
        never = reloading => never,
        never = telling => never,
        error = running.wait_for_failure() => {
            service_manager::notify_stopping();
            running.stop().await;
            Err(error)
        }
        name = signals.next() => {
            service_manager::notify_stopping();
            tracing::info!(signal = name, "stopping: no longer ready; requests are served until load balancers know");
            let again = async { tracing::info!(signal = signals.next().await, "told again to stop") };
            running.stop_with_delay_cutoff(again).await;
            tracing::info!("stopped");
            Ok(())
        }
    }
}
