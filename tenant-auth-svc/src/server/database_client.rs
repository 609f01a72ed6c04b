//! Builds the database client of a configuration.

use url::Url;

use super::StartError;
use crate::{
    config::{DatabaseConfig, DatabaseLocation, ReadReplicaConfig},
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
    let connect_timeout = config.connect_timeout;
    let remote = |url, token, proxy: Option<Box<Url>>| {
        RemoteEngine::new(RemoteConfig { url, token, proxy: proxy.map(|proxy| *proxy), connect_timeout })
    };
    let (backend, read_replica) = match (config.location, config.read_replica) {
        (DatabaseLocation::Embedded(path), _) => (Backend::Embedded(EmbeddedEngine::open(&path)?), None),
        (DatabaseLocation::Remote { url, token_file, proxy }, read_replica) => {
            let read_replica = match read_replica {
                Some(ReadReplicaConfig { url, token_file }) => Some(remote(url, token_file, proxy.clone())?),
                None => None,
            };
            (Backend::Remote(remote(url, token_file, proxy)?), read_replica)
        }
    };
    let client = ClientConfig {
        lookup_timeouts: config.timeouts,
        write_timeout: config.write_timeout,
        lane_limits: LaneLimits::from_total(config.max_in_flight),
    };
    Ok(DatabaseClient::new(backend, read_replica, client, clock))
}
