//! The server: three paths, and what is said about all others.

use std::{fmt, future::Future, io, net::SocketAddr, sync::Arc};

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

use super::{connections, json, status::ServiceStatus, text};

/// What is said to whoever asks for something else.
const NOT_FOUND_HELP: &str =
    "there is: /livez, /metrics, /readyz, /readyz?verbose, /readyz?verbose&format=json\n";
const TEXT_CONTENT_TYPE: &str = "text/plain; charset=utf-8";
const JSON_CONTENT_TYPE: &str = "application/json";

/// Looks how everything fares. Asks nobody: what is known is told.
pub type StatusCheck = Arc<dyn Fn() -> ServiceStatus + Send + Sync>;

/// What is told to those who look.
#[derive(Clone)]
pub struct OpsState {
    /// How everything fares.
    pub status_check: StatusCheck,
    /// The metrics of this moment, as Prometheus text, version 0.0.4.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// The Prometheus text format.
const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A bound address, not served yet.
#[derive(Debug)]
pub struct OpsListener {
    address: SocketAddr,
    listener: TcpListener,
}

/// Takes the address.
///
/// # Errors
/// What the operating system says.
pub async fn bind(address: SocketAddr) -> io::Result<OpsListener> {
    let listener = TcpListener::bind(address).await?;
    Ok(OpsListener { address: listener.local_addr()?, listener })
}

impl OpsListener {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `sql_limit` connections at once until `end`, then lets what is under way finish.
    pub async fn serve(self, told: OpsState, most: usize, end: impl Future<Output = ()> + Send + 'static) {
        let routes = Router::new()
            .route("/livez", get(livez))
            .route("/metrics", get(metrics))
            .route("/readyz", get(readyz))
            .fallback(not_found)
            .with_state(told);
        connections::serve(self.listener, routes, most, end).await;
    }
}

impl fmt::Debug for OpsState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Told").finish_non_exhaustive()
    }
}

async fn livez() -> Response {
    respond(StatusCode::OK, TEXT_CONTENT_TYPE, "ok".to_owned())
}

async fn metrics(State(told): State<OpsState>) -> Response {
    respond(StatusCode::OK, METRICS_CONTENT_TYPE, (told.metrics)())
}

async fn readyz(State(told): State<OpsState>, RawQuery(query): RawQuery) -> Response {
    let facts = (told.status_check)();
    let status = match facts.phase.is_ready() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let query = query.unwrap_or_default();
    let asks = |name: &str, value: Option<&str>| {
        form_urlencoded::parse(query.as_bytes())
            .any(|(found, with)| found == name && value.is_none_or(|value| value == with))
    };
    if !asks("verbose", None) {
        respond(status, TEXT_CONTENT_TYPE, facts.phase.as_str().to_owned())
    } else if asks("format", Some("json")) {
        respond(status, JSON_CONTENT_TYPE, json::render(&facts))
    } else {
        respond(status, TEXT_CONTENT_TYPE, text::render(&facts))
    }
}

async fn not_found() -> Response {
    respond(StatusCode::NOT_FOUND, TEXT_CONTENT_TYPE, NOT_FOUND_HELP.to_owned())
}

/// True for this moment only: no proxy may keep it.
fn respond(status: StatusCode, kind: &'static str, body: String) -> Response {
    (status, [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")], body).into_response()
}
