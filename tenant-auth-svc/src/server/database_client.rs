//! Builds the database client of a configuration.

use super::StartError;
use crate::{
    config::{DatabaseConfig, DatabaseLocation},
    database::{
        backend::Backend,
        client::{ClientConfig, DatabaseClient, bulkhead::LaneLimits},
        hrana::{RemoteConfig, RemoteEngine},
        libsql::EmbeddedEngine,
    },
    domain::clock::SharedClock,
};

/// Builds the database client of a configuration. Does not connect to a remote database yet.
///
/// # Errors
/// [`StartError::Open`] when an embedded database is in use or damaged; [`StartError::Setup`] when the HTTP client
/// cannot be built.
pub fn build_database_client(
    config: DatabaseConfig,
    clock: &SharedClock,
) -> Result<DatabaseClient, StartError> {
    let backend = match config.location {
        DatabaseLocation::Embedded(path) => Backend::Embedded(EmbeddedEngine::open(&path)?),
        DatabaseLocation::Remote { url, token_file: token, proxy } => {
            Backend::Remote(RemoteEngine::new(RemoteConfig {
                url,
                token,
                proxy: proxy.map(|proxy| *proxy),
                connect_timeout: config.connect_timeout,
            })?)
        }
    };
    let client = ClientConfig {
        lookup_timeouts: config.timeouts,
        write_timeout: config.write_timeout,
        lane_limits: LaneLimits::from_total(config.max_in_flight),
    };
    Ok(DatabaseClient::new(backend, client, clock))
}
