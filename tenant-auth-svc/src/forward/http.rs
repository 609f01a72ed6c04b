//! The HTTP server of the front doors.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE},
};
use tokio::net::TcpListener;

use super::{
    counts::{Door, DoorCounts},
    door::{Answer, DoorRequest, FrontDoor, record_decision},
    forward_auth, introspection,
    refusal::Refusal,
};
use crate::{
    domain::{
        access::{Access, TokenHash},
        network::TrustedProxies,
        unknown_lookup_limiter::{LoadContext, LookupOrigin},
        validate::KeySource,
    },
    grpc::{
        ApiError,
        context::{CallerLabel, RequestId, RpcRecord},
        denials::{self, DenialLog},
        limiters::Limiters,
        permits::PermitHolder,
    },
    middleware::{
        authorize::check_rule,
        identify::{
            CallerDirectory, Identity, PresentedCredential, REQUEST_ID_HEADER, is_valid_request_id,
            unknown_caller_label,
        },
        metrics::RpcMetrics,
    },
    telemetry::logging::RPC_TARGET,
    transport::{
        Peer,
        http1::{self, Http1Limits, WhenFull},
        tls::Certificates,
    },
};

/// The header with the token of the proxy: `authorization` holds the key of the customer.
pub(super) const CALLER_TOKEN_HEADER: HeaderName = HeaderName::from_static("x-tenant-auth-token");

/// Response to unknown paths.
const NOT_FOUND_HELP: &str =
    "available: /forward-auth, /forward-auth/nginx, /oauth2/introspect, /.well-known/jwks.json\n";

/// Peers that need no token do not keep their connections: those of the proxies are more important.
pub(super) const CLOSE: (HeaderName, &str) = (CONNECTION, "close");
/// Maximum time for the first request of a connection.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than proxies keep an idle connection (60 s or 90 s), so that none sends a request on a connection that is being
/// closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// Maximum age of a connection.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(24 * 3_600);

/// What the front doors over HTTP need.
#[derive(Debug)]
pub struct HttpDoors<K> {
    /// Decides.
    pub door: Arc<FrontDoor<K>>,
    /// Who may ask.
    pub callers: CallerDirectory,
    /// Limits of concurrent requests, shared with gRPC.
    pub limiters: Limiters,
    /// The proxies whose forwarding headers are trusted.
    pub trusted_peers: TrustedProxies,
    /// Counts requests by door.
    pub counts: Arc<DoorCounts>,
    /// Counts decisions.
    pub rpc_metrics: Arc<RpcMetrics>,
}

/// A bound address that is not served yet.
#[derive(Debug)]
pub struct ForwardListener {
    address: SocketAddr,
    listener: TcpListener,
}

/// Binds the address.
///
/// # Errors
/// The error of the operating system.
pub async fn bind(address: SocketAddr) -> io::Result<ForwardListener> {
    let listener = TcpListener::bind(address).await?;
    Ok(ForwardListener { address: listener.local_addr()?, listener })
}

impl ForwardListener {
    /// The bound address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `max_connections` connections at once until `end`, then lets in-flight requests finish.
    pub async fn serve<K: KeySource>(
        self,
        doors: HttpDoors<K>,
        certificates: Option<Arc<Certificates>>,
        max_connections: usize,
        end: impl Future<Output = ()> + Send + 'static,
    ) {
        let routes = Router::new()
            .route("/forward-auth", any(forward_auth::forward_auth::<K>))
            .route("/forward-auth/nginx", any(forward_auth::nginx::<K>))
            .route("/oauth2/introspect", post(introspection::introspect::<K>))
            .route("/.well-known/jwks.json", get(jwks::<K>))
            .route("/forward-auth/", any(forward_auth::unknown_path::<K>))
            .route("/forward-auth/{*path}", any(forward_auth::unknown_path::<K>))
            .fallback(async || (StatusCode::NOT_FOUND, [(CACHE_CONTROL, "no-store"), CLOSE], NOT_FOUND_HELP))
            .with_state(Arc::new(doors));
        let limits = Http1Limits {
            max_connections,
            when_full: WhenFull::CloseNew,
            first_request_timeout: FIRST_REQUEST_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            max_age: MAX_CONNECTION_AGE,
        };
        http1::serve(self.listener, certificates, routes, limits, end).await;
    }
}

async fn jwks<K: KeySource>(State(doors): State<Arc<HttpDoors<K>>>) -> Response {
    let headers = [(CONTENT_TYPE, "application/jwk-set+json"), (CACHE_CONTROL, "public, max-age=60"), CLOSE];
    (headers, doors.door.tokens().published().1.to_string()).into_response()
}

/// A request to a door, with the caller that may ask.
pub(super) struct Call {
    door: Door,
    pub(super) started: Instant,
    pub(super) caller: Arc<str>,
    pub(super) request_id: Option<Arc<str>>,
    pub(super) record: RpcRecord,
}

impl<K: KeySource> HttpDoors<K> {
    /// Identifies the caller of a request by its certificate or its token, and checks that it may ask.
    ///
    /// # Errors
    /// [`ApiError::UnknownCaller`] and [`ApiError::RoleMissing`].
    pub(super) fn accept(
        &self,
        door: Door,
        rule: Access,
        peer: &Peer,
        headers: &HeaderMap,
        credential: PresentedCredential,
    ) -> Result<Call, ApiError> {
        let callers = self.callers.load();
        let identity = match callers.as_deref() {
            None => Identity::Anyone,
            Some(callers) => credential.identify(callers, Some(peer)),
        };
        check_rule(&identity, rule)?;
        let caller = match &identity {
            Identity::Known(caller) => Arc::clone(&caller.name),
            Identity::Anyone | Identity::Unknown => unknown_caller_label(Some(peer)),
        };
        let id = headers.get(REQUEST_ID_HEADER).filter(|id| is_valid_request_id(id.as_bytes()));
        let request_id = id.and_then(|id| id.to_str().ok()).map(Arc::from);
        let record = RpcRecord::default();
        if denials::is_enabled() {
            let request_id = request_id.clone().map(RequestId);
            let caller = Some(CallerLabel(Arc::clone(&caller)));
            record.log_denials(DenialLog { rpc: door.as_str(), request_id, caller });
        }
        Ok(Call { door, started: Instant::now(), caller, request_id, record })
    }

    /// Decides a request. Only one that may wait for the database needs a permit.
    pub(super) async fn decide(&self, call: &Call, request: &DoorRequest<'_>) -> Answer {
        if let Some(answer) = self.door.decide_from_cache(request) {
            record_decision(&answer, &call.record);
            return answer;
        }
        let holder = PermitHolder { name: Arc::clone(&call.caller), is_known: true };
        let Ok(_permit) = self.limiters.requests.try_acquire(&holder, 1) else {
            call.record.add_not_tried();
            return Err(Refusal::UNDECIDED);
        };
        let deadline = call.started + self.door.timeout();
        let context = LoadContext { origin: LookupOrigin::caller(Arc::clone(&call.caller)), deadline };
        let decided = self.door.decide(request, context, &call.record).await;
        decided.unwrap_or_else(|error| Err(Refusal::undecided(error.retry_after)))
    }

    /// Counts a request that was answered with a code.
    pub(super) fn finish(&self, call: &Call, code: &str) {
        self.rpc_metrics.add_decisions(&call.record);
        self.counts.add(call.door, code, call.started.elapsed());
    }

    /// Logs and counts a request whose caller may not ask.
    pub(super) fn reject(&self, door: Door, peer: &Peer, error: &ApiError) {
        let reason = match error {
            ApiError::RoleMissing { caller, needs } => format!("the caller {caller} lacks the role {needs}"),
            _ => "unknown caller: send a known token, or a known client certificate".to_owned(),
        };
        tracing::warn!(target: RPC_TARGET, door = door.as_str(), address = %peer.address, reason, "proxy rejected");
        self.counts.add(door, Refusal::ProxyRejected.code(), Duration::ZERO);
    }
}

/// Returns the credential of a caller in the header for proxies.
pub(super) fn caller_token(headers: &HeaderMap) -> PresentedCredential {
    match headers.get(CALLER_TOKEN_HEADER).map(|token| token.to_str()) {
        None => PresentedCredential::Absent,
        Some(Ok(token)) if !token.trim().is_empty() => {
            PresentedCredential::Token(TokenHash::of(token.trim()))
        }
        Some(_) => PresentedCredential::Invalid,
    }
}
