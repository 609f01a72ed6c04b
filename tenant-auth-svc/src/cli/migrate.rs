//! `migrate`.

use std::process::ExitCode;

use super::{fail, say, settings::SettingsArgs, start_logging};
use crate::{app, domain::clock::SystemClock, store::migrate};

pub(super) async fn run(args: SettingsArgs) -> ExitCode {
    let config = match args.read() {
        Ok((config, _)) => config,
        Err(error) => return fail(2, &error.to_string()),
    };
    let _log = start_logging(&config.log);
    let hop = match app::hop(config.database, &SystemClock::shared()) {
        Ok(hop) => hop,
        Err(error) => return fail(1, &error.to_string()),
    };
    match migrate::migrate(&hop, &SystemClock::shared()).await {
        Ok(applied) if applied.is_empty() => {
            say(&format!("the schema is up to date at version {}", migrate::KNOWN_VERSION));
            ExitCode::SUCCESS
        }
        Ok(applied) => {
            let (version, applied) = (migrate::KNOWN_VERSION, applied.join(", "));
            say(&format!("applied {applied}; the schema is at version {version}"));
            ExitCode::SUCCESS
        }
        Err(error) => fail(1, &error.to_string()),
    }
}
