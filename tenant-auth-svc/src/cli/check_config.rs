//! `check-config`.

use std::process::ExitCode;

use clap::Args;

use super::{fail, say, settings::SettingsArgs, start_logging};
use crate::{app, domain::clock::SystemClock, store::migrate};

/// What to check.
#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Also reach the database, and check its schema and the peppers; changes nothing
    #[arg(long)]
    connect: bool,
}

pub(super) async fn run(args: CheckArgs) -> ExitCode {
    let (config, settings) = match args.settings.read() {
        Ok(read) => read,
        Err(error) => return fail(2, &error.to_string()),
    };
    let width = settings.iter().map(|setting| setting.variable.len()).max().unwrap_or_default();
    for setting in settings {
        let origin = setting.origin.as_str();
        say(&format!("{:width$}  {}  ({origin})", setting.variable, setting.value));
    }
    let clock = SystemClock::shared();
    for line in app::expiry::described(&config.tls, &config.database, &clock) {
        say(&line);
    }
    if !args.connect {
        say("the configuration is complete; --connect would try the database as well");
        return ExitCode::SUCCESS;
    }
    let _log = start_logging(&config.log);
    let peppers = config.keys.peppers;
    let hop = match app::hop(config.database, &clock) {
        Ok(hop) => hop,
        Err(error) => return fail(1, &error.to_string()),
    };
    let checked = match migrate::verify(&hop).await {
        Ok(()) => migrate::verify_peppers(&hop, &peppers).await,
        Err(error) => Err(error),
    };
    match checked {
        Ok(()) => {
            say("the configuration is complete, and the database is ready for it");
            ExitCode::SUCCESS
        }
        Err(error) => fail(1, &error.to_string()),
    }
}
