//! `migrate`.

use std::{process::ExitCode, time::Duration};

use super::{fail, say, settings::SettingsArgs, start_logging};
use crate::{
    database::migrate::{self, SchemaError},
    domain::clock::{SharedClock, SystemClock},
    server::{self, Hop},
};

/// For how long a copy of the database may lag behind what was done to its primary.
const LOOKS: u32 = 30;
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run(args: SettingsArgs) -> ExitCode {
    let config = match args.read() {
        Ok((config, _)) => config,
        Err(error) => return fail(2, &error.to_string()),
    };
    let _log = start_logging(&config.log);
    let hop = match server::hop(config.database, &SystemClock::shared()) {
        Ok(hop) => hop,
        Err(error) => return fail(1, &error.to_string()),
    };
    match until_shown(&hop, &SystemClock::shared()).await {
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

/// Migrates, and looks again where a copy of the database does not show yet what was done.
async fn until_shown(hop: &Hop, clock: &SharedClock) -> Result<Vec<&'static str>, SchemaError> {
    for _ in 1..LOOKS {
        match migrate::migrate(hop, clock).await {
            Err(SchemaError::NotShownYet { .. }) => tokio::time::sleep(PAUSE).await,
            outcome => return outcome,
        }
    }
    migrate::migrate(hop, clock).await
}
