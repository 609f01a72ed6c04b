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

use super::{connections, facts::Facts, json, text};

/// What is said to whoever asks for something else.
const CONTENTS: &str = "there is: /livez, /metrics, /readyz, /readyz?verbose, /readyz?verbose&format=json\n";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// Looks how everything fares. Asks nobody: what is known is told.
pub type Look = Arc<dyn Fn() -> Facts + Send + Sync>;

/// What is told to those who look.
#[derive(Clone)]
pub struct Told {
    /// How everything fares.
    pub look: Look,
    /// The metrics of this moment, as Prometheus text, version 0.0.4.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// The Prometheus text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A bound address, not served yet.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    listener: TcpListener,
}

/// Takes the address.
///
/// # Errors
/// What the operating system says.
pub async fn bind(address: SocketAddr) -> io::Result<Listener> {
    let listener = TcpListener::bind(address).await?;
    Ok(Listener { address: listener.local_addr()?, listener })
}

impl Listener {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `most` connections at once until `end`, then lets what is under way finish.
    pub async fn serve(self, told: Told, most: usize, end: impl Future<Output = ()> + Send + 'static) {
        let routes = Router::new()
            .route("/livez", get(livez))
            .route("/metrics", get(metrics))
            .route("/readyz", get(readyz))
            .fallback(nothing_here)
            .with_state(told);
        connections::serve(self.listener, routes, most, end).await;
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Told").finish_non_exhaustive()
    }
}

async fn livez() -> Response {
    answer(StatusCode::OK, TEXT, "ok".to_owned())
}

async fn metrics(State(told): State<Told>) -> Response {
    answer(StatusCode::OK, METRICS, (told.metrics)())
}

async fn readyz(State(told): State<Told>, RawQuery(query): RawQuery) -> Response {
    let facts = (told.look)();
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
        answer(status, TEXT, facts.phase.as_str().to_owned())
    } else if asks("format", Some("json")) {
        answer(status, JSON, json::of(&facts))
    } else {
        answer(status, TEXT, text::of(&facts))
    }
}

async fn nothing_here() -> Response {
    answer(StatusCode::NOT_FOUND, TEXT, CONTENTS.to_owned())
}

/// True for this moment only: no proxy may keep it.
fn answer(status: StatusCode, kind: &'static str, body: String) -> Response {
    (status, [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")], body).into_response()
}
