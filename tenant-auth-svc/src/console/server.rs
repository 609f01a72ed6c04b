//! The HTTP server of the console: which page is at which path.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    response::IntoResponse as _,
    routing::{get, post},
};
use futures::FutureExt as _;
use http::StatusCode;
use tokio::net::TcpListener;

use super::{
    Console, ConsoleParts, applied, assets, audit, failure::Failure, find, headers, key, login, overview,
    person::Person, tenant, tenants,
};
use crate::transport::{
    http1::{self, Http1Limits, WhenFull},
    tls::Certificates,
};

/// The maximum number of open connections: a browser opens up to six.
const MAX_CONNECTIONS: usize = 64;
/// Maximum time for the TLS handshake and the first request, and then between two requests.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum age of a connection. A browser opens a live stream again.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(60 * 60);
/// The maximum size of a form, in bytes.
const MAX_FORM_BYTES: usize = 64 * 1_024;

/// A bound address that is not served yet.
#[derive(Debug)]
pub struct ConsoleListener {
    address: SocketAddr,
    listener: TcpListener,
}

/// Binds the address.
///
/// # Errors
/// The error of the operating system.
pub async fn bind(address: SocketAddr) -> io::Result<ConsoleListener> {
    let listener = TcpListener::bind(address).await?;
    Ok(ConsoleListener { address: listener.local_addr()?, listener })
}

impl ConsoleListener {
    /// The bound address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves the pages until `end`.
    pub async fn serve(
        self,
        parts: ConsoleParts,
        certificates: Option<Arc<Certificates>>,
        end: impl Future<Output = ()> + Send + 'static,
    ) {
        let limits = Http1Limits {
            max_connections: MAX_CONNECTIONS,
            when_full: WhenFull::CloseOldest,
            first_request_timeout: IDLE_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            max_age: MAX_CONNECTION_AGE,
        };
        let end = end.boxed().shared();
        let Some(console) = Console::new(parts, end.clone()) else {
            tracing::error!("the operating system has no randomness: there is no console");
            return;
        };
        let history = Arc::clone(&console.history);
        let serving = http1::serve(self.listener, certificates, routes(console), limits, end);
        // Only a console takes samples, and it takes them for as long as it serves.
        tokio::select! {
            () = serving => {}
            () = history.take_samples() => {}
        }
    }
}

fn routes(console: Arc<Console>) -> Router {
    Router::new()
        .route("/", get(overview::show))
        .route("/events", get(overview::stream))
        .route("/applied", get(applied::stream))
        .route("/audit", get(audit::show))
        .route("/audit.csv", get(audit::export::csv))
        .route("/audit.json", get(audit::export::json))
        .route("/login", get(login::form).post(login::log_in))
        .route("/logout", post(login::log_out))
        .route("/assets/{name}", get(assets::serve))
        .route("/tenants", get(tenants::list))
        .route("/tenants/{id}", get(tenant::show))
        .route("/tenants/{id}/keys", post(tenant::changes::issue))
        .route("/tenants/{id}/suspend", post(tenant::changes::suspend))
        .route("/tenants/{id}/resume", post(tenant::changes::resume))
        .route("/sessions/unbind", post(tenant::changes::unbind))
        .route("/keys/{id}", get(key::show))
        .route("/keys/{id}/rotate", post(key::changes::rotate))
        .route("/keys/{id}/pause", post(key::changes::pause))
        .route("/keys/{id}/resume", post(key::changes::resume))
        .route("/keys/{id}/revoke", post(key::changes::revoke))
        .route("/find", post(find::find))
        .fallback(async |person: Person| {
            Failure::new(StatusCode::NOT_FOUND, "No page has this address.").page(&person).into_response()
        })
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .layer(middleware::from_fn_with_state(Arc::clone(&console), headers::guard))
        .with_state(console)
}
