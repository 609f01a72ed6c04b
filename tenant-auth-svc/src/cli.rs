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

const EXIT_CODES: &str = "Exit codes: 0 success, 1 failure, 2 invalid command line or configuration.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run on this machine for evaluation: embedded database, demo tenant and key.
    Dev(dev::DevArgs),
    /// Run in production, configured by TENANT_AUTH_* variables and flags.
    Serve(SettingsArgs),
    /// Migrate the database schema to the current version, and exit.
    Migrate(SettingsArgs),
    /// Show the effective configuration, or every problem with it.
    CheckConfig(check_config::CheckArgs),
    /// Compare usage totals with the sums of their events; exits with 1 and a line for each that differs. `--repair`
    /// corrects them.
    Reconcile(reconcile::ReconcileArgs),
    /// Generate a token for a calling service, and its hash for the callers file.
    CallerToken,
    /// Check whether a running service is ready; for containers.
    Healthcheck(healthcheck::HealthArgs),
}

impl Cli {
    /// Runs the command and returns its exit code.
    #[must_use]
    pub fn run(self) -> ExitCode {
        // For everything but connections, which have their own threads: two threads keep the process responsive.
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
        // Does not wait for blocking tasks: a file check on a hung disk must not delay the exit.
        runtime.shutdown_background();
        code
    }
}

/// Prints an error and returns the exit code.
fn fail(code: u8, message: &str) -> ExitCode {
    #[expect(clippy::print_stderr, reason = "the error message of a command")]
    {
        eprintln!("error: {message}");
    }
    ExitCode::from(code)
}

/// Prints a line to standard output; the log goes to standard error.
fn print_line(text: &str) {
    use std::io::Write as _;
    // The reader may have closed the pipe, as in `… | head`; that is no error.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Starts logging. Panics are logged too, so that each line of the output is a log line.
fn start_logging(config: &LogConfig) -> LogGuard {
    let (subscriber, log) = logging::subscriber(config, SystemClock::shared(), std::io::stderr);
    // Fails only when a subscriber is set already; no other code sets one.
    let _ = tracing::subscriber::set_global_default(subscriber);
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(tracing::field::display);
        // Only static messages: a formatted one may quote the data that caused the panic.
        let message = panic.payload().downcast_ref::<&'static str>();
        tracing::error!(place = location, why = message, "a thread panicked");
    }));
    let flusher = log.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOG_COUNT_INTERVAL).await;
            flusher.flush_due_counts();
        }
    });
    LogGuard(log)
}

/// How often pending counts of suppressed log lines are checked.
const LOG_COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// The log of a command; writes the remaining counts of suppressed lines when dropped.
#[must_use]
struct LogGuard(logging::Log);

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// Logs the error and returns the exit code: a service's log is read where its terminal is not.
fn log_and_fail(error: &impl std::fmt::Display) -> ExitCode {
    if !tracing::enabled!(tracing::Level::ERROR) {
        return fail(1, &error.to_string());
    }
    tracing::error!(%error, "the service failed");
    ExitCode::from(1)
}

/// Serves until a signal stops the service or it fails. A second signal ends the drain delay. SIGHUP, if `hangup` is
/// given, reloads files.
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
            tracing::info!(signal = "SIGHUP", "reload requested");
            service_manager::notify_reloading();
            // On a blocking thread: a hung disk must not delay the handling of a stop signal.
            service_manager::notify_reloaded(tokio::task::spawn_blocking(reload.clone()).await.ok());
        }
    };
    let until_ready = running.until_ready();
    let notify_readiness = async {
        until_ready.await;
        service_manager::notify_ready();
        std::future::pending().await
    };
    service_manager::notify_serving();
    tokio::select! {
        never = reloading => never,
        never = notify_readiness => never,
        error = running.wait_for_failure() => {
            service_manager::notify_stopping();
            running.stop().await;
            Err(error)
        }
        name = signals.next() => {
            service_manager::notify_stopping();
            tracing::info!(signal = name, "stopping: reported as not ready, requests are served until the drain delay ends");
            let second_signal = async { tracing::info!(signal = signals.next().await, "second stop signal: the drain delay ends") };
            running.stop_with_delay_cutoff(second_signal).await;
            tracing::info!("stopped");
            Ok(())
        }
    }
}
