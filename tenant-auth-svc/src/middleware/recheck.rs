//! Ends the streams of callers that may no longer do what they are doing.
//!
//! A request is judged when its head arrives, which is enough for one that is answered at once. A stream may live for as long
//! as its connection, so it is judged again whenever the callers in force are replaced: by what it presented when it was
//! opened, under the rules of its opening. What would be refused if it were opened now ends, with the status of that
//! refusal, before anything more is answered. All others go on.
//!
//! A call that is no stream is not cut off: it ends by itself within the limit of [`deadline`](super::deadline), and whoever
//! asked for a change has to learn whether it was made.

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

/// The RPCs whose answer is a stream.
pub const STREAMING_RPCS: [&str; 5] = [
    "/tenantauth.v1.ValidationService/StreamValidateKeys",
    "/tenantauth.v1.WatchService/Watch",
    // Anyone may call these, so no change of the callers ends them; they stand here for the day that this changes.
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Judges streams again when the callers change.
#[derive(Clone, Debug)]
pub struct RecheckLayer(CallerDirectory);

impl RecheckLayer {
    /// Goes by these callers.
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
            // What was replaced between the reading of the head and here is looked at with the first piece.
            replaced.mark_changed();
            Box::new(OpenStream {
                path,
                credential: PresentedCredential::from_headers(request.headers()),
                peer: request.extensions().get().cloned(),
                callers: self.callers.clone(),
                replacements: replaced,
            })
        });
        RecheckedFuture { answer: self.inner.call(request), stream }
    }
}

/// A stream as it was opened.
#[derive(Debug)]
struct OpenStream {
    path: &'static str,
    credential: PresentedCredential,
    peer: Option<Peer>,
    callers: CallerDirectory,
    replacements: watch::Receiver<()>,
}

impl OpenStream {
    /// Whether it might be opened now. Asked again only when the callers were replaced.
    fn recheck(&mut self) -> Result<(), ApiError> {
        // An error would say that the directory is gone, which is kept here.
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
        // One that is refused has its status in its head, and no body.
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
    /// A body that ends when its caller may no longer have it.
    pub struct RecheckedBody<B> {
        #[pin]
        body: Option<B>,
        stream: Option<Box<OpenStream>>,
        // Only while there is nothing to send: what is busy looks by itself.
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
                // With all that it has under way.
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

/// A refusal where an answer has begun already.
fn error_trailers(error: ApiError) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // Only what no header can hold would fail, and then there is no status at all, which callers take for UNKNOWN.
    let _ = Status::from(error).add_header(&mut trailers);
    trailers
}
