//! The HTTP server of the ops port: three paths, one more if leaked keys are received, and a help text for all others.

use std::{fmt, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{
    StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use tokio::net::TcpListener;
use url::form_urlencoded;

use super::{
    json,
    secret_scanning::{self, SecretScanning},
    status::ServiceStatus,
    text,
};
use crate::transport::http1::{self, Http1Limits, WhenFull};

/// Response to unknown paths.
const NOT_FOUND_HELP: &str =
    "available: /livez, /metrics, /readyz, /readyz?verbose, /readyz?verbose&format=json\n";
const TEXT_CONTENT_TYPE: &str = "text/plain; charset=utf-8";
const JSON_CONTENT_TYPE: &str = "application/json";

/// Timeout of the headers of a request, the first one and each later one: longer than the 15 s between two scrapes of
/// Prometheus, so that it keeps its connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum age of a connection, regardless of its activity.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(300);

/// Collects the status of the service. Sends no requests: it only reports what is known.
pub type StatusCheck = Arc<dyn Fn() -> ServiceStatus + Send + Sync>;

/// What the ops server reports.
#[derive(Clone)]
pub struct OpsState {
    /// Collects the status.
    pub status_check: StatusCheck,
    /// Returns the current metrics as Prometheus text, version 0.0.4.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Receives leaked keys; `None` if that is not configured.
    pub secret_scanning: Option<SecretScanning>,
}

/// Content type of the Prometheus text format.
const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A bound address that is not served yet.
#[derive(Debug)]
pub struct OpsListener {
    address: SocketAddr,
    listener: TcpListener,
}

/// Binds the address.
///
/// # Errors
/// The error of the operating system.
pub async fn bind(address: SocketAddr) -> io::Result<OpsListener> {
    let listener = TcpListener::bind(address).await?;
    Ok(OpsListener { address: listener.local_addr()?, listener })
}

impl OpsListener {
    /// The bound address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `max_connections` connections at once until `end`, then lets in-flight requests finish.
    pub async fn serve(
        self,
        state: OpsState,
        max_connections: usize,
        end: impl Future<Output = ()> + Send + 'static,
    ) {
        let routes = Router::new()
            .route("/livez", get(livez))
            .route("/metrics", get(metrics))
            .route("/readyz", get(readyz));
        let routes = match state.secret_scanning {
            Some(_) => routes.route(secret_scanning::PATH, secret_scanning::route()),
            None => routes,
        };
        let routes = routes.fallback(not_found).with_state(state);
        let limits = Http1Limits {
            max_connections,
            when_full: WhenFull::CloseOldest,
            first_request_timeout: IDLE_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            max_age: MAX_CONNECTION_AGE,
        };
        http1::serve(self.listener, None, routes, limits, end).await;
    }
}

impl fmt::Debug for OpsState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpsState").finish_non_exhaustive()
    }
}

async fn livez() -> Response {
    respond(StatusCode::OK, TEXT_CONTENT_TYPE, "ok".to_owned())
}

async fn metrics(State(state): State<OpsState>) -> Response {
    respond(StatusCode::OK, METRICS_CONTENT_TYPE, (state.metrics)())
}

async fn readyz(State(state): State<OpsState>, RawQuery(query): RawQuery) -> Response {
    let report = (state.status_check)();
    let status = match report.phase.is_ready() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let query = query.unwrap_or_default();
    let has_parameter = |name: &str, value: Option<&str>| {
        form_urlencoded::parse(query.as_bytes())
            .any(|(key, given)| key == name && value.is_none_or(|value| value == given))
    };
    if !has_parameter("verbose", None) {
        respond(status, TEXT_CONTENT_TYPE, report.phase.as_str().to_owned())
    } else if has_parameter("format", Some("json")) {
        respond(status, JSON_CONTENT_TYPE, json::render(&report))
    } else {
        respond(status, TEXT_CONTENT_TYPE, text::render(&report))
    }
}

async fn not_found() -> Response {
    respond(StatusCode::NOT_FOUND, TEXT_CONTENT_TYPE, NOT_FOUND_HELP.to_owned())
}

/// Responds with `no-store`: the content is valid only at this time, so no proxy may cache it.
fn respond(status: StatusCode, kind: &'static str, body: String) -> Response {
    (status, [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")], body).into_response()
}
