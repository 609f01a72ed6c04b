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
    /// The gRPC address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The forward address cannot be used.
    #[error("cannot listen on TENANT_AUTH_FORWARD_LISTEN={address}: {source}")]
    ForwardListen {
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The address of the console cannot be used.
    #[error("cannot listen on TENANT_AUTH_CONSOLE_LISTEN={address}: {source}")]
    ConsoleListen {
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The ops address cannot be bound.
    #[error("cannot listen on {address} for health and metrics over HTTP (TENANT_AUTH_OPS_LISTEN): {source}")]
    OpsListen {
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The worker threads cannot be started.
    #[error("cannot start the worker threads: {0}")]
    Threads(std::io::Error),
    /// The embedded database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The client of the remote database cannot be built.
    #[error(transparent)]
    Setup(#[from] HttpSetupError),
    /// The exporter of spans and metrics cannot be set up.
    #[error("cannot set up the export of spans and metrics (TENANT_AUTH_OTLP_ENDPOINT): {0}")]
    Collector(String),
    /// The audit log cannot be copied to its file.
    #[error("cannot copy the audit log (TENANT_AUTH_AUDIT_FILE): {0}")]
    Audit(AuditCopyError),
    /// The secret scanning endpoint cannot be set up.
    #[error("cannot set up the secret scanning endpoint (TENANT_AUTH_SECRET_SCANNING_KEYS): {0}")]
    SecretScanning(String),
    /// The database's schema or content is unusable.
    #[error(transparent)]
    Schema(Arc<SchemaError>),
    /// The configuration allows only canonical builds.
    #[error("this build may not run here (TENANT_AUTH_REQUIRE_CANONICAL_BUILD): {0}")]
    Build(#[from] build::NotCanonical),
    /// The server stopped by itself.
    #[error("the server stopped unexpectedly: {0}")]
    Server(String),
}
