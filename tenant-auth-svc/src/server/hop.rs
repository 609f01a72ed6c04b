//! The way to the database that a configuration asks for.

use super::{Hop, StartError};
use crate::{
    config::{DatabaseConfig, Location},
    database::{
        backend::Backend,
        client::{ClientConfig, DatabaseClient, bulkhead::LaneLimits},
        hrana::{RemoteConfig, RemoteEngine},
        libsql::EmbeddedEngine,
    },
    domain::clock::SharedClock,
};

/// Prepares the database hop that a configuration asks for. Connects to nothing remote yet.
///
/// # Errors
/// [`StartError::Open`] when an embedded database is in use or broken; [`StartError::Setup`].
pub fn hop(config: DatabaseConfig, clock: &SharedClock) -> Result<Hop, StartError> {
    let backend = match config.location {
        Location::Embedded(path) => Backend::Embedded(EmbeddedEngine::open(&path)?),
        Location::Remote { url, token, proxy } => Backend::Remote(RemoteEngine::new(RemoteConfig {
            url,
            token,
            proxy: proxy.map(|proxy| *proxy),
            connect_timeout: config.connect_timeout,
        })?),
    };
    let client = ClientConfig {
        timeouts: config.timeouts,
        write_timeout: config.write_timeout,
        limits: LaneLimits::of_total(config.in_flight),
    };
    Ok(DatabaseClient::new(backend, client, clock))
}
