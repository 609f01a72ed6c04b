//! Why the service could not start, or had to stop.

use std::{net::SocketAddr, sync::Arc};

use thiserror::Error;

use crate::{
    build,
    database::{hrana::HttpSetupError, libsql::OpenError, migrate::SchemaError},
    jobs::audit_copy::AuditCopyError,
};

/// Why the service could not start, or had to stop.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The address for health over HTTP cannot be had.
    #[error("cannot listen on {address} for health over HTTP (TENANT_AUTH_OPS_LISTEN): {source}")]
    OpsListen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// There is nothing to serve with.
    #[error("cannot start the threads that serve connections: {0}")]
    Threads(std::io::Error),
    /// The embedded database cannot be had.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The remote database cannot be prepared for.
    #[error(transparent)]
    Setup(#[from] HttpSetupError),
    /// There is no way to the collector of spans and metrics.
    #[error("cannot prepare to send spans and metrics (TENANT_AUTH_OTLP_ENDPOINT): {0}")]
    Collector(String),
    /// The audit log cannot be copied to a file.
    #[error("the audit log cannot be copied (TENANT_AUTH_AUDIT_FILE): {0}")]
    Audit(AuditCopyError),
    /// The database cannot be used as it is.
    #[error(transparent)]
    Schema(Arc<SchemaError>),
    /// A build like this one may not run here.
    #[error("this build may not run here (TENANT_AUTH_REQUIRE_CANONICAL_BUILD): {0}")]
    Build(#[from] build::NotCanonical),
    /// The server broke.
    #[error("the server ended unexpectedly: {0}")]
    Server(String),
}
