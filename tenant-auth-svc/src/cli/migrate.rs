//! `migrate`: brings the schema up to date.

use std::{process::ExitCode, time::Duration};

use super::{fail, print_line, settings::SettingsArgs, start_logging};
use crate::{
    database::{
        client::DatabaseClient,
        migrate::{self, SchemaError},
    },
    domain::clock::{SharedClock, SystemClock},
    server::{self},
};

/// Maximum number of attempts, one per second: how long a database read replica may lag behind its primary.
const MAX_ATTEMPTS: u32 = 30;
/// Delay between two attempts.
const RETRY_DELAY: Duration = Duration::from_secs(1);

pub(super) async fn run(args: SettingsArgs) -> ExitCode {
    let config = match args.read() {
        Ok((config, _)) => config,
        Err(error) => return fail(2, &error.to_string()),
    };
    let _log = start_logging(&config.log);
    let database_client = match server::build_database_client(config.database, &SystemClock::shared()) {
        Ok(database_client) => database_client,
        Err(error) => return fail(1, &error.to_string()),
    };
    match migrate_until_visible(&database_client, &SystemClock::shared()).await {
        Ok(applied) if applied.is_empty() => {
            print_line(&format!("the schema is up to date at version {}", migrate::KNOWN_VERSION));
            ExitCode::SUCCESS
        }
        Ok(applied) => {
            let (version, applied) = (migrate::KNOWN_VERSION, applied.join(", "));
            print_line(&format!("applied {applied}; the schema is at version {version}"));
            ExitCode::SUCCESS
        }
        Err(error) => fail(1, &error.to_string()),
    }
}

/// Migrates; retries while a read replica of the database does not show the result yet.
async fn migrate_until_visible(
    database_client: &DatabaseClient,
    clock: &SharedClock,
) -> Result<Vec<&'static str>, SchemaError> {
    for _ in 1..MAX_ATTEMPTS {
        match migrate::migrate(database_client, clock).await {
            Err(SchemaError::ReadReplicaLagging { .. }) => tokio::time::sleep(RETRY_DELAY).await,
            outcome => return outcome,
        }
    }
    migrate::migrate(database_client, clock).await
}
