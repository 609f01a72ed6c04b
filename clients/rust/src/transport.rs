//! Distributes requests over the replicas, with the credentials of the calling service.

mod address;
mod connection;
mod pool;
mod replica;
mod resolver;
mod socket;
mod target;
mod token;

use std::{
    error::Error as StdError,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use http::{HeaderName, HeaderValue, Request, Response, header::AUTHORIZATION};
use tokio::time::Instant;
use tonic::body::Body;
use tower_service::Service;

pub use self::token::CallerToken;
use self::token::CurrentToken;
pub(crate) use self::{
    address::{Address, parse_endpoints as read_endpoints},
    connection::Connection,
    pool::Pool,
    target::Target,
};
use crate::{Error, near::AnswerCache};

/// The request id in the log of the service.
const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");

type BoxError = Box<dyn StdError + Send + Sync>;

/// The connections of a client, for clients of the generated code; see
/// [`Client::transport`](crate::Client::transport). Clones share them.
#[derive(Clone)]
pub struct Transport {
    shared: Arc<TransportState>,
    routing: Routing,
}

struct TransportState {
    pool: Pool,
    token: Arc<Option<CurrentToken>>,
    request_id: Option<HeaderValue>,
    is_closed: AtomicBool,
}

/// How a request is routed.
#[derive(Clone)]
enum Routing {
    /// A call of this client; the route records the connection.
    Routed(Arc<Route>),
    /// A call of the generated code. If it may change something, the near-cache is cleared.
    Raw(Option<Arc<AnswerCache>>),
}

/// The connection of one attempt of a call.
#[derive(Default)]
pub(crate) struct Route {
    /// The replica on which an earlier attempt failed.
    avoided: Option<u64>,
    /// The connection that must be used.
    fixed: Option<Arc<Connection>>,
    used: OnceLock<(Arc<Connection>, Instant)>,
    /// Whether the connection was lost before the request was sent on it.
    is_unsent: AtomicBool,
}

impl Route {
    /// Returns a route that avoids the replica on which an earlier attempt failed.
    pub(crate) fn avoiding(avoided: Option<u64>) -> Self {
        Self { avoided, ..Self::default() }
    }

    /// Returns a route over this connection.
    pub(crate) fn fixed(connection: Arc<Connection>) -> Self {
        Self { fixed: Some(connection), ..Self::default() }
    }

    /// Returns the connection on which the request was sent; `None` while it waits for one.
    pub(crate) fn connection(&self) -> Option<&Arc<Connection>> {
        self.used.get().map(|(connection, _)| connection)
    }

    /// Returns whether the request may have reached a replica.
    pub(crate) fn may_have_arrived(&self) -> bool {
        self.connection().is_some() && !self.is_unsent.load(Ordering::Acquire)
    }

    /// Returns when the request was sent.
    pub(crate) fn sent_at(&self) -> Option<Instant> {
        self.used.get().map(|(_, at)| *at)
    }
}

impl Transport {
    /// # Errors
    /// [`Error::Setup`] if the token is invalid.
    pub(crate) fn new(
        targets: Vec<Target>,
        token: Option<CallerToken>,
        request_id: Option<HeaderValue>,
    ) -> Result<Self, Error> {
        let token = Arc::new(token.map(CurrentToken::new).transpose()?);
        let pool = Pool::new(targets, Arc::clone(&token));
        let shared = TransportState { pool, token, request_id, is_closed: AtomicBool::new(false) };
        Ok(Self { shared: Arc::new(shared), routing: Routing::Raw(None) })
    }

    /// Returns the same connections for one attempt.
    pub(crate) fn routed(&self, route: Arc<Route>) -> Self {
        Self { shared: Arc::clone(&self.shared), routing: Routing::Routed(route) }
    }

    /// Returns the same connections for calls of the generated code.
    pub(crate) fn raw(&self, cache: Option<Arc<AnswerCache>>) -> Self {
        Self { shared: Arc::clone(&self.shared), routing: Routing::Raw(cache) }
    }

    /// Returns whether any replica is connected.
    pub(crate) fn is_connected(&self) -> bool {
        self.shared.pool.is_connected()
    }

    /// Returns a connection to another replica, if there is one.
    pub(crate) fn alternative_to(&self, connection: &Connection) -> Option<Arc<Connection>> {
        self.shared.pool.alternative_to(connection)
    }

    /// Connects to any of the replicas.
    pub(crate) async fn connect(&self) -> Result<(), Error> {
        self.shared.pool.next_connection(None).await.map(|_| ())
    }

    /// Rejects new calls; calls in flight continue.
    pub(crate) fn close(&self) {
        self.shared.is_closed.store(true, Ordering::Release);
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.is_closed.load(Ordering::Acquire)
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // The replica is chosen with the request, in `call`.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Self { shared, routing } = self.clone();
        Box::pin(async move {
            let (route, cache) = match routing {
                Routing::Routed(route) => (Some(route), None),
                Routing::Raw(_) if shared.is_closed.load(Ordering::Acquire) => {
                    return Err(Error::Closed.into());
                }
                Routing::Raw(cache) => (None, cache.filter(|_| may_mutate(request.uri().path()))),
            };
            // Also if the call fails or is cancelled: it may have changed something.
            let _clearing = cache.map(AnswerCache::clear_on_drop);
            if let Some(token) = &*shared.token {
                request.headers_mut().insert(AUTHORIZATION, token.current_header()?);
            }
            if let Some(request_id) = &shared.request_id {
                request.headers_mut().insert(REQUEST_ID_HEADER, request_id.clone());
            }
            let fixed = route.as_ref().and_then(|route| route.fixed.clone());
            let connection = match fixed {
                Some(connection) => connection,
                None => shared.pool.next_connection(route.as_ref().and_then(|route| route.avoided)).await?,
            };
            if let Some(route) = &route {
                // Each attempt has its own route.
                let _ = route.used.set((Arc::clone(&connection), Instant::now()));
            }
            let outcome = connection.send(request).await;
            if let (Some(route), Err(error)) = (route, &outcome) {
                route.is_unsent.store(connection::is_unsent(error), Ordering::Release);
            }
            Ok(outcome?)
        })
    }
}

/// Returns whether a call of the generated code may change an answer.
fn may_mutate(path: &str) -> bool {
    let Some((service, method)) = path.trim_start_matches('/').split_once('/') else { return false };
    let reads = ["Get", "List", "Query"].iter().any(|verb| method.starts_with(verb));
    matches!(service, "tenantauth.v1.AdminService" | "tenantauth.v1.SessionService") && !reads
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("pool", &self.shared.pool).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutating_calls_are_known_by_path() {
        for path in ["AdminService/RevokeKey", "AdminService/SomethingNew", "SessionService/UnbindSession"] {
            assert!(may_mutate(&format!("/tenantauth.v1.{path}")), "{path}");
        }
        for path in ["AdminService/ListKeys", "SessionService/ListSessions", "ValidationService/ValidateKey"]
        {
            assert!(!may_mutate(&format!("/tenantauth.v1.{path}")), "{path}");
        }
    }
}
