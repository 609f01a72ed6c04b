//! Carries requests to one of several replicas, in turn, with the caller's own credentials.

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

/// Names a request in the service's log.
const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");

type BoxError = Box<dyn StdError + Send + Sync>;

/// The connections, for clients of the generated code; see [`Client::transport`](crate::Client::transport). Clones
/// share them.
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

/// For whom a request goes.
#[derive(Clone)]
enum Routing {
    /// A call of this client's own, which says where it went.
    Routed(Arc<Route>),
    /// A call of the generated code. What it may change is forgotten.
    Raw(Option<Arc<AnswerCache>>),
}

/// Where an attempt of a call goes, and went.
#[derive(Default)]
pub(crate) struct Route {
    /// Where it had no luck before.
    avoided: Option<u64>,
    /// Where it has to go.
    fixed: Option<Arc<Connection>>,
    used: OnceLock<(Arc<Connection>, Instant)>,
}

impl Route {
    /// To another replica than one that had no luck before.
    pub(crate) fn avoiding(avoided: Option<u64>) -> Self {
        Self { avoided, ..Self::default() }
    }

    /// On this connection.
    pub(crate) fn fixed(connection: Arc<Connection>) -> Self {
        Self { fixed: Some(connection), ..Self::default() }
    }

    /// The connection that it went out on; none while it waits for one.
    pub(crate) fn connection(&self) -> Option<&Arc<Connection>> {
        self.used.get().map(|(connection, _)| connection)
    }

    /// When it went out.
    pub(crate) fn sent_at(&self) -> Option<Instant> {
        self.used.get().map(|(_, at)| *at)
    }
}

impl Transport {
    /// # Errors
    /// [`Error::Setup`] when the token cannot be used.
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

    /// The same connections, for one attempt.
    pub(crate) fn routed(&self, route: Arc<Route>) -> Self {
        Self { shared: Arc::clone(&self.shared), routing: Routing::Routed(route) }
    }

    /// The same connections, for calls that this client knows nothing of.
    pub(crate) fn raw(&self, near: Option<Arc<AnswerCache>>) -> Self {
        Self { shared: Arc::clone(&self.shared), routing: Routing::Raw(near) }
    }

    /// Whether some replica is connected.
    pub(crate) fn is_connected(&self) -> bool {
        self.shared.pool.is_connected()
    }

    /// A connection to another replica, if there is one.
    pub(crate) fn alternative_to(&self, connection: &Connection) -> Option<Arc<Connection>> {
        self.shared.pool.alternative_to(connection)
    }

    /// Connects to any of the replicas.
    pub(crate) async fn connect(&self) -> Result<(), Error> {
        self.shared.pool.next_connection(None).await.map(|_| ())
    }

    /// Takes no more calls; those under way go on.
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
        // Which replica has to be ready is decided with the request.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Self { shared, routing: way } = self.clone();
        Box::pin(async move {
            let (route, near) = match way {
                Routing::Routed(route) => (Some(route), None),
                Routing::Raw(_) if shared.is_closed.load(Ordering::Acquire) => {
                    return Err(Error::Closed.into());
                }
                Routing::Raw(near) => (None, near.filter(|_| may_mutate(request.uri().path()))),
            };
            // Also when it fails, or is given up: it may have changed something.
            let _changed = near.map(AnswerCache::clear_on_drop);
            if let Some(token) = &*shared.token {
                request.headers_mut().insert(AUTHORIZATION, token.current_header()?);
            }
            if let Some(request_id) = &shared.request_id {
                request.headers_mut().insert(REQUEST_ID_HEADER, request_id.clone());
            }
            let given = route.as_ref().and_then(|route| route.fixed.clone());
            let connection = match given {
                Some(connection) => connection,
                None => shared.pool.next_connection(route.as_ref().and_then(|route| route.avoided)).await?,
            };
            if let Some(route) = route {
                // Each attempt has one of its own.
                let _ = route.used.set((Arc::clone(&connection), Instant::now()));
            }
            Ok(connection.send(request).await?)
        })
    }
}

/// Whether a call of the generated code may change what answers say.
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
