//! Answers a request from the cache before the middleware stack is set up for it.
//!
//! Nearly every request is about a cached key, and its response takes less time than assigning a request id,
//! acquiring a permit and setting a timer. Only requests that may wait get those. A cache hit takes about a
//! microsecond on the thread of its connection, so hits neither queue up nor run late. Callers are authorized
//! as in the middleware stack. A request that is not a plain cache hit takes the full middleware stack,
//! unchanged.

mod buffered_request;
pub mod cache_responder;
mod response_body;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower::Service;

use self::buffered_request::{BufferedRequest, ResumedBody};
pub use self::response_body::FastPathBody;
use crate::{
    domain::{limit::LimitEnforcer, validate::KeySource},
    fast_path::cache_responder::CacheResponder,
    grpc::denials,
    middleware::{
        authorize::check_access,
        identify::{
            CallerDirectory, PresentedCredential, REQUEST_ID_HEADER, identify_caller, is_valid_request_id,
        },
        metrics::RpcMetrics,
        trace::SamplingDecision,
    },
    telemetry::{logging::RPC_TARGET, traces::RequestTracer},
    transport::PeerRequest,
};

/// The service that answers cache hits itself. Clones share no counters that are written per request: each
/// connection has a clone, and threads do not contend for a counter.
#[derive(Debug)]
pub struct FastPath<S, K, L>(Arc<FastPathState<S, K, L>>);

/// The state of the fast path, and the service behind it.
#[derive(Debug)]
pub struct FastPathState<S, K, L> {
    responder: CacheResponder<K, L>,
    callers: CallerDirectory,
    metrics: Arc<RpcMetrics>,
    tracing: Option<RequestTracer>,
    inner: S,
}

impl<S, K: KeySource, L: LimitEnforcer> FastPath<S, K, L> {
    /// Creates a service that answers with `responder` what it can for `callers`, and counts these requests
    /// in `metrics`. All other requests, and requests that `tracing` samples, go to `inner`.
    pub fn new(
        responder: CacheResponder<K, L>,
        callers: CallerDirectory,
        metrics: Arc<RpcMetrics>,
        tracing: Option<RequestTracer>,
        inner: S,
    ) -> Self {
        Self(Arc::new(FastPathState { responder, callers, metrics, tracing, inner }))
    }
}

impl<S: Clone, K: KeySource, L: LimitEnforcer> Clone for FastPath<S, K, L> {
    fn clone(&self) -> Self {
        let FastPathState { responder, callers, metrics, tracing, inner } = &*self.0;
        let (responder, callers, metrics) = (responder.clone(), callers.clone(), Arc::clone(metrics));
        Self(Arc::new(FastPathState {
            responder,
            callers,
            metrics,
            tracing: tracing.clone(),
            inner: inner.clone(),
        }))
    }
}

impl<S, K, L, Out> Service<PeerRequest> for FastPath<S, K, L>
where
    S: Service<Request<tonic::body::Body>, Response = Response<Out>> + Clone,
    K: KeySource,
    L: LimitEnforcer,
{
    type Response = Response<FastPathBody<Out>>;
    type Error = S::Error;
    type Future = FastPathFuture<S, K, L, S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut peer_request: PeerRequest) -> Self::Future {
        let started = Instant::now();
        if self.0.is_eligible(&peer_request) && !self.0.is_sampled(&mut peer_request.request) {
            FastPathFuture {
                route: Route::Buffering {
                    state: Arc::clone(&self.0),
                    peer_request: Some(peer_request),
                    read: BufferedRequest::default(),
                    timer: None,
                    started,
                },
            }
        } else {
            let errors = FastPathState::error_responder(&self.0, peer_request.request.uri().path(), started);
            let answer = self.0.inner.clone().call(peer_request.into_request().map(tonic::body::Body::new));
            FastPathFuture { route: Route::Inner { answer: Box::pin(answer), errors } }
        }
    }
}

impl<S, K: KeySource, L: LimitEnforcer> FastPathState<S, K, L> {
    fn is_eligible(&self, peer_request: &PeerRequest) -> bool {
        let PeerRequest { peer, request } = peer_request;
        let path = request.uri().path();
        CacheResponder::<K, L>::handles(path)
            && request.method() == Method::POST
            && request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == GRPC_CONTENT_TYPE || kind == "application/grpc+proto")
            // At this level the access log has a line for each of these RPCs, which only the middleware stack
            // writes.
            && !tracing::enabled!(target: RPC_TARGET, tracing::Level::DEBUG)
            && check_access(&identify_caller(self.callers.load().as_deref(), PresentedCredential::from_headers(request.headers()), Some(peer)), path).is_ok()
    }
}

impl<S, K: KeySource, L: LimitEnforcer> FastPathState<S, K, L> {
    /// Returns the state if a gRPC error in the response to this path is replaced.
    fn error_responder(state: &Arc<Self>, path: &str, started: Instant) -> ErrorResponder<S, K, L> {
        CacheResponder::<K, L>::replaces_errors(path).then(|| (Arc::clone(state), started))
    }
}

impl<S, K, L> FastPathState<S, K, L> {
    /// Returns whether the request may be traced. If the caller sent no sampling flag, the decision is drawn
    /// here and stored with the request, so that it is not drawn twice.
    fn is_sampled(&self, request: &mut Request<Incoming>) -> bool {
        let Some(tracing) = &self.tracing else { return false };
        match tracing.caller_sampled(request.headers()) {
            Some(is_sampled) => is_sampled,
            None => {
                let drawn = tracing.draw_sample();
                request.extensions_mut().insert(SamplingDecision(drawn));
                drawn
            }
        }
    }
}

/// Replaces a gRPC error in the response to a request that arrived at a time; `None` if the caller gets the error.
type ErrorResponder<S, K, L> = Option<(Arc<FastPathState<S, K, L>>, Instant)>;

const GRPC_CONTENT_TYPE: &str = "application/grpc";

pin_project! {
    /// The future of [`FastPath`].
    pub struct FastPathFuture<S, K, L, F> {
        #[pin]
        route: Route<S, K, L, F>,
    }
}

pin_project! {
    #[project = RouteProjection]
    enum Route<S, K, L, F> {
        // The request's message is being read.
        Buffering {
            state: Arc<FastPathState<S, K, L>>,
            peer_request: Option<PeerRequest>,
            read: BufferedRequest,
            // Set only if the message does not arrive together with the request headers.
            timer: Option<Pin<Box<Sleep>>>,
            started: Instant,
        },
        // Boxed: the future is many times larger, and every cache hit would move that many bytes.
        Inner { answer: Pin<Box<F>>, errors: ErrorResponder<S, K, L> },
    }
}

impl<S, K, L, Out> Future for FastPathFuture<S, K, L, S::Future>
where
    S: Service<Request<tonic::body::Body>, Response = Response<Out>> + Clone,
    K: KeySource,
    L: LimitEnforcer,
{
    type Output = Result<Response<FastPathBody<Out>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut route = self.project().route;
        if let RouteProjection::Buffering { state, peer_request, read, timer, started } =
            route.as_mut().project()
        {
            let Some(pending_request) = peer_request.as_mut() else { return Poll::Pending };
            if read.poll_read(pending_request.request.body_mut(), cx).is_pending() {
                let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(BODY_READ_TIMEOUT)));
                ready!(timer.as_mut().poll(cx));
            }
            let Some(peer_request) = peer_request.take() else { return Poll::Pending };
            let path = peer_request.request.uri().path();
            if let Some(frame) = read.single_frame()
                && let Some(answer) = state.responder.respond(path, frame, *started)
                // The middleware stack gives the same response from the same cache, and has the fields of the
                // denial log line.
                && !(denials::is_enabled() && answer.has_denial())
            {
                state.metrics.count_cache_hit(path, &answer.verdicts, *started);
                return Poll::Ready(Ok(cached_response(answer.frame, peer_request.request.headers())));
            }
            let read = std::mem::take(read);
            let request =
                peer_request.into_request().map(|rest| tonic::body::Body::new(ResumedBody::new(read, rest)));
            let errors = FastPathState::error_responder(state, request.uri().path(), *started);
            let answer = state.inner.clone().call(request);
            route.set(Route::Inner { answer: Box::pin(answer), errors });
        }
        match route.project() {
            RouteProjection::Inner { answer, errors } => {
                let response = ready!(answer.as_mut().poll(cx))?;
                // Another HTTP status says that the request is not gRPC.
                if let Some((state, started)) = errors
                    && response.status() == StatusCode::OK
                    && let Some(frame) = state.responder.respond_to_error(response.headers(), *started)
                {
                    return Poll::Ready(Ok(cached_response(frame, response.headers())));
                }
                Poll::Ready(Ok(response.map(FastPathBody::inner)))
            }
            RouteProjection::Buffering { .. } => Poll::Pending,
        }
    }
}

/// The maximum time between the request headers and the message. A slower request goes to the middleware
/// stack, which has limits for that.
const BODY_READ_TIMEOUT: Duration = Duration::from_millis(100);

/// `headers`: of the request, or of the response that is replaced.
fn cached_response<Out>(frame: Bytes, headers: &HeaderMap) -> Response<FastPathBody<Out>> {
    let mut response = Response::new(FastPathBody::cached(frame));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(GRPC_CONTENT_TYPE));
    // Only an id that the caller sent: nobody could search for an id that the caller does not have.
    if let Some(id) = headers.get(REQUEST_ID_HEADER).filter(|id| is_valid_request_id(id.as_bytes())) {
        response.headers_mut().insert(REQUEST_ID_HEADER, id.clone());
    }
    response
}
