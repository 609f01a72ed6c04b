//! Answers from memory before anything is set up for a request that may have to wait.
//!
//! Nearly every request asks about a key that is in memory. Its answer takes less time than naming the request, taking
//! a place for it and setting its timer; so those are for the requests that need them. A hit is in work for a
//! microsecond, on the thread of its connection: it can neither pile up nor be late. Who may call is looked at here as
//! everywhere. What is no plain hit goes the whole way as if this were not here.

mod buffered_request;
pub mod cache_responder;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header::CONTENT_TYPE};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower::Service;

use self::buffered_request::{BufferedRequest, ResumedBody};
use crate::{
    domain::validate::KeySource,
    fast_path::cache_responder::CacheResponder,
    grpc::denials,
    middleware::{
        authorize::check_access,
        identify::{CallerDirectory, REQUEST_ID_HEADER, identify_caller, is_valid_request_id},
        metrics::RpcMetrics,
        trace::SamplingDecision,
    },
    telemetry::{logging::RPC_TARGET, traces::RequestTracer},
    transport::PeerRequest,
};

/// The service that takes the shortcut where it can. A clone shares nothing that is counted: each connection has one, and
/// no two threads wait for each other's count.
#[derive(Debug)]
pub struct FastPath<S, K>(Arc<FastPathState<S, K>>);

/// Where a request may go.
#[derive(Debug)]
pub struct FastPathState<S, K> {
    responder: CacheResponder<K>,
    callers: CallerDirectory,
    metrics: Arc<RpcMetrics>,
    tracing: Option<RequestTracer>,
    inner: S,
}

impl<S, K: KeySource> FastPath<S, K> {
    /// Answers what `cache_responder` can for `callers`, and leaves everything else to `parse_json`.
    /// They are counted in `rpcs`. What is traced by `tracing` is left to `parse_json` too.
    pub fn new(
        hits: CacheResponder<K>,
        callers: CallerDirectory,
        rpcs: Arc<RpcMetrics>,
        tracing: Option<RequestTracer>,
        whole: S,
    ) -> Self {
        Self(Arc::new(FastPathState { responder: hits, callers, metrics: rpcs, tracing, inner: whole }))
    }
}

impl<S: Clone, K: KeySource> Clone for FastPath<S, K> {
    fn clone(&self) -> Self {
        let FastPathState { responder: hits, callers, metrics: rpcs, tracing, inner: whole } = &*self.0;
        let (hits, callers, rpcs) = (hits.clone(), callers.clone(), Arc::clone(rpcs));
        Self(Arc::new(FastPathState {
            responder: hits,
            callers,
            metrics: rpcs,
            tracing: tracing.clone(),
            inner: whole.clone(),
        }))
    }
}

impl<S, K, Out> Service<PeerRequest> for FastPath<S, K>
where
    S: Service<Request<tonic::body::Body>, Response = Response<Out>> + Clone,
    K: KeySource,
{
    type Response = Response<FastPathBody<Out>>;
    type Error = S::Error;
    type Future = FastPathFuture<S, K, S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut arrived: PeerRequest) -> Self::Future {
        let started = Instant::now();
        if self.0.is_eligible(&arrived) && !self.0.is_sampled(&mut arrived.request) {
            FastPathFuture {
                route: Route::Buffering {
                    ways: Arc::clone(&self.0),
                    arrived: Some(arrived),
                    read: BufferedRequest::default(),
                    patience: None,
                    started,
                },
            }
        } else {
            let answer = self.0.inner.clone().call(arrived.into_request().map(tonic::body::Body::new));
            FastPathFuture { route: Route::Inner { answer: Box::pin(answer) } }
        }
    }
}

impl<S, K: KeySource> FastPathState<S, K> {
    fn is_eligible(&self, arrived: &PeerRequest) -> bool {
        let PeerRequest { peer, request } = arrived;
        let path = request.uri().path();
        CacheResponder::<K>::handles(path)
            && request.method() == Method::POST
            && request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == GRPC_CONTENT_TYPE || kind == "application/grpc+proto")
            // Who reads the lines of these RPCs wants to see all of them.
            && !tracing::enabled!(target: RPC_TARGET, tracing::Level::DEBUG)
            && check_access(&identify_caller(self.callers.load().as_deref(), Some(peer), request.headers()), path).is_ok()
    }
}

impl<S, K> FastPathState<S, K> {
    /// Whether a request may be traced: chance decides here about those whose caller says nothing, so that it is not
    /// asked twice.
    fn is_sampled(&self, request: &mut Request<Incoming>) -> bool {
        let Some(tracing) = &self.tracing else { return false };
        match tracing.caller_sampled(request.headers()) {
            Some(said) => said,
            None => {
                let drawn = tracing.draw_sample();
                request.extensions_mut().insert(SamplingDecision(drawn));
                drawn
            }
        }
    }
}

const GRPC_CONTENT_TYPE: &str = "application/grpc";

pin_project! {
    /// The future of [`FastPath`].
    pub struct FastPathFuture<S, K, F> {
        #[pin]
        route: Route<S, K, F>,
    }
}

pin_project! {
    #[project = RouteProjection]
    enum Route<S, K, F> {
        // The request's message is read.
        Buffering {
            ways: Arc<FastPathState<S, K>>,
            arrived: Option<PeerRequest>,
            read: BufferedRequest,
            // Only for a message that does not come with its head.
            patience: Option<Pin<Box<Sleep>>>,
            started: Instant,
        },
        // Apart: it is many times as large, and every hit would be moved about with room for it.
        Inner { answer: Pin<Box<F>> },
    }
}

impl<S, K, Out> Future for FastPathFuture<S, K, S::Future>
where
    S: Service<Request<tonic::body::Body>, Response = Response<Out>> + Clone,
    K: KeySource,
{
    type Output = Result<Response<FastPathBody<Out>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut way = self.project().route;
        if let RouteProjection::Buffering { ways, arrived, read, patience, started } = way.as_mut().project()
        {
            let Some(asking) = arrived.as_mut() else { return Poll::Pending };
            if read.poll_read(asking.request.body_mut(), cx).is_pending() {
                let patience =
                    patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(BODY_READ_TIMEOUT)));
                ready!(patience.as_mut().poll(cx));
            }
            let Some(arrived) = arrived.take() else { return Poll::Pending };
            let path = arrived.request.uri().path();
            if let Some(frame) = read.single_frame()
                && let Some(answer) = ways.responder.respond(path, frame)
                // The whole way answers the same from the same memory, and knows what belongs into the line of a denial.
                && !(denials::is_enabled() && answer.has_denial())
            {
                ways.metrics.count_cache_hit(path, &answer.verdicts, *started);
                return Poll::Ready(Ok(cached_response(answer.frame, arrived.request.headers())));
            }
            let read = std::mem::take(read);
            let request =
                arrived.into_request().map(|rest| tonic::body::Body::new(ResumedBody::new(read, rest)));
            let answer = ways.inner.clone().call(request);
            way.set(Route::Inner { answer: Box::pin(answer) });
        }
        match way.project() {
            RouteProjection::Inner { answer } => {
                let response = ready!(answer.as_mut().poll(cx))?;
                Poll::Ready(Ok(response.map(|body| FastPathBody { source: BodySource::Inner { body } })))
            }
            RouteProjection::Buffering { .. } => Poll::Pending,
        }
    }
}

/// How long a message may be in coming after its head. What takes longer goes the whole way, which has limits for that.
const BODY_READ_TIMEOUT: Duration = Duration::from_millis(100);

fn cached_response<Out>(frame: Bytes, request: &HeaderMap) -> Response<FastPathBody<Out>> {
    let mut response =
        Response::new(FastPathBody { source: BodySource::Cached { frame: Some(frame), is_over: false } });
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(GRPC_CONTENT_TYPE));
    // Only one that the caller has given: without, nobody will look for it.
    if let Some(id) = request.get(REQUEST_ID_HEADER).filter(|id| is_valid_request_id(id.as_bytes())) {
        response.headers_mut().insert(REQUEST_ID_HEADER, id.clone());
    }
    response
}

pin_project! {
    /// The body of an answer.
    pub struct FastPathBody<B> {
        #[pin]
        source: BodySource<B>,
    }
}

pin_project! {
    #[project = BodySourceProjection]
    enum BodySource<B> {
        // One frame, and the status OK.
        Cached { frame: Option<Bytes>, is_over: bool },
        Inner { #[pin] body: B },
    }
}

impl<B: Body<Data = Bytes>> Body for FastPathBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().source.project() {
            BodySourceProjection::Inner { body } => body.poll_frame(cx),
            BodySourceProjection::Cached { frame, is_over } => match (frame.take(), *is_over) {
                (Some(frame), _) => Poll::Ready(Some(Ok(Frame::data(frame)))),
                (None, false) => {
                    *is_over = true;
                    let mut trailers = HeaderMap::with_capacity(1);
                    trailers.insert("grpc-status", HeaderValue::from_static("0"));
                    Poll::Ready(Some(Ok(Frame::trailers(trailers))))
                }
                (None, true) => Poll::Ready(None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            BodySource::Inner { body } => body.is_end_stream(),
            BodySource::Cached { is_over, .. } => *is_over,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            BodySource::Inner { body } => body.size_hint(),
            BodySource::Cached { .. } => SizeHint::default(),
        }
    }
}
