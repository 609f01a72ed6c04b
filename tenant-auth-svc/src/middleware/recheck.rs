//! Ends the streams of callers that no longer have the permission.
//!
//! A request is authorized when its headers arrive, which is enough for a unary call. A stream may live as
//! long as its connection, so it is authorized again whenever the callers are replaced, with the credential
//! and the path of its start. A stream that would now be refused ends with the status of that refusal, before
//! it sends anything more. All others continue.
//!
//! A unary call is not ended: it ends within the limit of [`deadline`](super::deadline), and its caller must
//! learn whether a change was made.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::sync::watch;
use tonic::Status;
use tower::{Layer, Service};

use super::{
    authorize::check_access,
    identify::{CallerDirectory, PresentedCredential},
};
use crate::{grpc::ApiError, transport::Peer};

/// The RPCs with a stream as response.
pub const STREAMING_RPCS: [&str; 6] = [
    "/tenantauth.v1.ValidationService/StreamValidateKeys",
    "/tenantauth.v1.LimitService/StreamConsume",
    "/tenantauth.v1.WatchService/Watch",
    // Every caller may call these, so a replacement of the callers ends none of them. They are listed in case
    // that changes.
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Authorizes streams again when the callers are replaced.
#[derive(Clone, Debug)]
pub struct RecheckLayer(CallerDirectory);

impl RecheckLayer {
    /// Creates a layer for these callers.
    #[must_use]
    pub fn new(callers: CallerDirectory) -> Self {
        Self(callers)
    }
}

impl<S> Layer<S> for RecheckLayer {
    type Service = Recheck<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Recheck { inner, callers: self.0.clone() }
    }
}

/// The service of [`RecheckLayer`].
#[derive(Clone, Debug)]
pub struct Recheck<S> {
    inner: S,
    callers: CallerDirectory,
}

impl<S, In, Out> Service<Request<In>> for Recheck<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
{
    type Response = Response<RecheckedBody<Out>>;
    type Error = S::Error;
    type Future = RecheckedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        let path = request.uri().path();
        let stream = STREAMING_RPCS.iter().find(|stream| **stream == path).map(|path| {
            let mut replaced = self.callers.watch();
            // Callers that were replaced between the identify layer and this point are checked with the first
            // message.
            replaced.mark_changed();
            Box::new(OpenStream {
                path,
                credential: PresentedCredential::of(request.extensions(), request.headers()),
                peer: request.extensions().get().cloned(),
                callers: self.callers.clone(),
                replacements: replaced,
            })
        });
        RecheckedFuture { answer: self.inner.call(request), stream }
    }
}

/// The credential, the path and the peer of an open stream.
#[derive(Debug)]
struct OpenStream {
    path: &'static str,
    credential: PresentedCredential,
    peer: Option<Peer>,
    callers: CallerDirectory,
    replacements: watch::Receiver<()>,
}

impl OpenStream {
    /// Checks that the stream could still be opened. Does nothing unless the callers were replaced.
    fn recheck(&mut self) -> Result<(), ApiError> {
        // An error means that the directory is dropped, but `self.callers` keeps it.
        if !self.replacements.has_changed().unwrap_or(false) {
            return Ok(());
        }
        self.replacements.mark_unchanged();
        match self.callers.load().as_deref() {
            Some(callers) => check_access(&self.credential.identify(callers, self.peer.as_ref()), self.path),
            None => Ok(()),
        }
    }

    fn wait_for_replacement(&self) -> BoxFuture<'static, ()> {
        let mut replaced = self.replacements.clone();
        Box::pin(async move {
            let _ = replaced.changed().await;
        })
    }
}

pin_project! {
    /// The future of [`Recheck`].
    pub struct RecheckedFuture<F> {
        #[pin]
        answer: F,
        stream: Option<Box<OpenStream>>,
    }
}

impl<F, Out, E> Future for RecheckedFuture<F>
where
    F: Future<Output = Result<Response<Out>, E>>,
{
    type Output = Result<Response<RecheckedBody<Out>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.answer.poll(cx))?;
        // A refused stream has its status in the headers, and no body.
        let is_refused = response.headers().contains_key(Status::GRPC_STATUS);
        let opened = this.stream.take().filter(|_| !is_refused);
        Poll::Ready(Ok(response.map(|body| RecheckedBody {
            body: Some(body),
            stream: opened,
            replaced: None,
        })))
    }
}

pin_project! {
    /// A body that ends when its caller loses the permission.
    pub struct RecheckedBody<B> {
        #[pin]
        body: Option<B>,
        stream: Option<Box<OpenStream>>,
        // Set only while there is nothing to send: a busy stream checks with every message.
        replaced: Option<BoxFuture<'static, ()>>,
    }
}

impl<B: Default> Default for RecheckedBody<B> {
    fn default() -> Self {
        Self { body: Some(B::default()), stream: None, replaced: None }
    }
}

impl<B: Body> Body for RecheckedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        loop {
            if let Some(opened) = this.stream
                && let Err(error) = opened.recheck()
            {
                *this.stream = None;
                *this.replaced = None;
                // Drops the inner stream with all its pending work.
                this.body.set(None);
                return Poll::Ready(Some(Ok(Frame::trailers(error_trailers(error)))));
            }
            let Some(body) = this.body.as_mut().as_pin_mut() else { return Poll::Ready(None) };
            let frame = body.poll_frame(cx);
            let Some(opened) = this.stream else { return frame };
            if frame.is_ready() {
                return frame;
            }
            let replaced = this.replaced.get_or_insert_with(|| opened.wait_for_replacement());
            ready!(replaced.as_mut().poll(cx));
            *this.replaced = None;
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// Returns the trailers of a refusal after the response has started.
fn error_trailers(error: ApiError) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // Fails only if the status does not fit into a header. Callers treat the missing status as UNKNOWN.
    let _ = Status::from(error).add_header(&mut trailers);
    trailers
}
