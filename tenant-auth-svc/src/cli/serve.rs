//! `serve`: runs the service in production.

use std::process::ExitCode;

use super::{
    fail, log_and_fail, serve_until_stopped, settings::SettingsArgs, signals::HangupSignal, start_logging,
};
use crate::{build, domain::clock::SystemClock, server};

pub(super) async fn run(args: SettingsArgs) -> ExitCode {
    let config = match args.read() {
        Ok((config, _)) => config,
        Err(error) => return fail(2, &error.to_string()),
    };
    let _log = start_logging(&config.log);
    // Before anything else: without a handler, SIGHUP ends the process.
    let hangup = HangupSignal::listen();
    let running = match server::start(config, SystemClock::shared()).await {
        Ok(running) => running,
        Err(error) => return log_and_fail(&error),
    };
    running.measure_scheduler_lag();
    tracing::info!(
        address = %running.address(),
        ops = running.ops_address().map(tracing::field::display),
        forward = running.forward_address().map(tracing::field::display),
        console = running.console_address().map(tracing::field::display),
        version = build::THIS.version,
        commit = build::THIS.commit,
        branch = build::THIS.branch,
        dirty = build::THIS.dirty,
        "serving"
    );
    match serve_until_stopped(running, Some(hangup)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => log_and_fail(&error),
    }
}
