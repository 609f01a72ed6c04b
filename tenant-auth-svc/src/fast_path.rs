//! Answers from memory before anything is set up for a request that may have to wait.
//!
//! Nearly every request asks about a key that is in memory. Its answer takes less time than naming the request, taking
//! a place for it and setting its timer; so those are for the requests that need them. A hit is in work for a
//! microsecond, on the thread of its connection: it can neither pile up nor be late. Who may call is looked at here as
//! everywhere. What is no plain hit goes the whole way as if this were not here.

pub mod hits;
mod read;

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

use self::read::{Read, Resumed};
use crate::{
    domain::validate::KeySource,
    fast_path::hits::Hits,
    grpc::denials,
    middleware::{
        authorize::allowed,
        identify::{Directory, REQUEST_ID, identity, is_sensible},
        metrics::Rpcs,
        trace::Chance,
    },
    telemetry::{logging::RPC_TARGET, traces::Tracing},
    transport::Arrived,
};

/// The service that takes the shortcut where it can. A clone shares nothing that is counted: each connection has one, and
/// no two threads wait for each other's count.
#[derive(Debug)]
pub struct Shortcut<S, K>(Arc<Ways<S, K>>);

/// Where a request may go.
#[derive(Debug)]
pub struct Ways<S, K> {
    hits: Hits<K>,
    callers: Directory,
    rpcs: Arc<Rpcs>,
    tracing: Option<Tracing>,
    whole: S,
}

impl<S, K: KeySource> Shortcut<S, K> {
    /// Answers what `hits` can for `callers`, and leaves everything else to `whole`.
    /// They are counted in `rpcs`. What is traced by `tracing` is left to `whole` too.
    pub fn new(
        hits: Hits<K>,
        callers: Directory,
        rpcs: Arc<Rpcs>,
        tracing: Option<Tracing>,
        whole: S,
    ) -> Self {
        Self(Arc::new(Ways { hits, callers, rpcs, tracing, whole }))
    }
}

impl<S: Clone, K: KeySource> Clone for Shortcut<S, K> {
    fn clone(&self) -> Self {
        let Ways { hits, callers, rpcs, tracing, whole } = &*self.0;
        let (hits, callers, rpcs) = (hits.clone(), callers.clone(), Arc::clone(rpcs));
        Self(Arc::new(Ways { hits, callers, rpcs, tracing: tracing.clone(), whole: whole.clone() }))
    }
}

impl<S, K, Out> Service<Arrived> for Shortcut<S, K>
where
    S: Service<Request<tonic::body::Body>, Response = Response<Out>> + Clone,
    K: KeySource,
{
    type Response = Response<ShortcutBody<Out>>;
    type Error = S::Error;
    type Future = Answering<S, K, S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut arrived: Arrived) -> Self::Future {
        let started = Instant::now();
        if self.0.applies(&arrived) && !self.0.is_traced(&mut arrived.request) {
            Answering {
                way: Way::Trying {
                    ways: Arc::clone(&self.0),
                    arrived: Some(arrived),
                    read: Read::default(),
                    patience: None,
                    started,
                },
            }
        } else {
            let answer = self.0.whole.clone().call(arrived.into_request().map(tonic::body::Body::new));
            Answering { way: Way::Whole { answer: Box::pin(answer) } }
        }
    }
}

impl<S, K: KeySource> Ways<S, K> {
    fn applies(&self, arrived: &Arrived) -> bool {
        let Arrived { peer, request } = arrived;
        let path = request.uri().path();
        Hits::<K>::concerns(path)
            && request.method() == Method::POST
            && request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == GRPC || kind == "application/grpc+proto")
            // Who reads the lines of these RPCs wants to see all of them.
            && !tracing::enabled!(target: RPC_TARGET, tracing::Level::DEBUG)
            && allowed(&identity(self.callers.load().as_deref(), Some(peer), request.headers()), path).is_ok()
    }
}

impl<S, K> Ways<S, K> {
    /// Whether a request may be traced: chance decides here about those whose caller says nothing, so that it is not
    /// asked twice.
    fn is_traced(&self, request: &mut Request<Incoming>) -> bool {
        let Some(tracing) = &self.tracing else { return false };
        match tracing.said(request.headers()) {
            Some(said) => said,
            None => {
                let drawn = tracing.draw();
                request.extensions_mut().insert(Chance(drawn));
                drawn
            }
        }
    }
}

const GRPC: &str = "application/grpc";

pin_project! {
    /// The future of [`Shortcut`].
    pub struct Answering<S, K, F> {
        #[pin]
        way: Way<S, K, F>,
    }
}

pin_project! {
    #[project = WayProjection]
    enum Way<S, K, F> {
        // The request's message is read.
        Trying {
            ways: Arc<Ways<S, K>>,
            arrived: Option<Arrived>,
            read: Read,
            // Only for a message that does not come with its head.
            patience: Option<Pin<Box<Sleep>>>,
            started: Instant,
        },
        // Apart: it is many times as large, and every hit would be moved about with room for it.
        Whole { answer: Pin<Box<F>> },
    }
}

impl<S, K, Out> Future for Answering<S, K, S::Future>
where
    S: Service<Request<tonic::body::Body>, Response = Response<Out>> + Clone,
    K: KeySource,
{
    type Output = Result<Response<ShortcutBody<Out>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut way = self.project().way;
        if let WayProjection::Trying { ways, arrived, read, patience, started } = way.as_mut().project() {
            let Some(asking) = arrived.as_mut() else { return Poll::Pending };
            if read.on(asking.request.body_mut(), cx).is_pending() {
                let patience = patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
                ready!(patience.as_mut().poll(cx));
            }
            let Some(arrived) = arrived.take() else { return Poll::Pending };
            let path = arrived.request.uri().path();
            if let Some(frame) = read.whole()
                && let Some(answer) = ways.hits.answer(path, frame)
                // The whole way answers the same from the same memory, and knows what belongs into the line of a denial.
                && !(denials::wanted() && answer.has_denial())
            {
                ways.rpcs.hit(path, &answer.decisions, *started);
                return Poll::Ready(Ok(response(answer.frame, arrived.request.headers())));
            }
            let read = std::mem::take(read);
            let request = arrived.into_request().map(|rest| tonic::body::Body::new(Resumed::new(read, rest)));
            let answer = ways.whole.clone().call(request);
            way.set(Way::Whole { answer: Box::pin(answer) });
        }
        match way.project() {
            WayProjection::Whole { answer } => {
                let response = ready!(answer.as_mut().poll(cx))?;
                Poll::Ready(Ok(response.map(|body| ShortcutBody { kind: Kind::Whole { body } })))
            }
            WayProjection::Trying { .. } => Poll::Pending,
        }
    }
}

/// How long a message may be in coming after its head. What takes longer goes the whole way, which has limits for that.
const PATIENCE: Duration = Duration::from_millis(100);

fn response<Out>(frame: Bytes, request: &HeaderMap) -> Response<ShortcutBody<Out>> {
    let mut response = Response::new(ShortcutBody { kind: Kind::Hit { frame: Some(frame), is_over: false } });
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    // Only one that the caller has given: without, nobody will look for it.
    if let Some(id) = request.get(REQUEST_ID).filter(|id| is_sensible(id.as_bytes())) {
        response.headers_mut().insert(REQUEST_ID, id.clone());
    }
    response
}

pin_project! {
    /// The body of an answer.
    pub struct ShortcutBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B> {
        // One frame, and the status OK.
        Hit { frame: Option<Bytes>, is_over: bool },
        Whole { #[pin] body: B },
    }
}

impl<B: Body<Data = Bytes>> Body for ShortcutBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProjection::Whole { body } => body.poll_frame(cx),
            KindProjection::Hit { frame, is_over } => match (frame.take(), *is_over) {
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
        match &self.kind {
            Kind::Whole { body } => body.is_end_stream(),
            Kind::Hit { is_over, .. } => *is_over,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole { body } => body.size_hint(),
            Kind::Hit { .. } => SizeHint::default(),
        }
    }
}
