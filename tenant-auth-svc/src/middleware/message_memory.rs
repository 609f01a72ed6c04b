//! Limits the bytes of unanswered requests and of unread responses.
//!
//! Nearly all requests and responses are a few kilobytes at most, and the request permits limit their number.
//! This layer counts the bytes of longer ones (a batch of a thousand keys, a page of a list) while they are
//! in memory. A caller that sends half of each request, or never reads, uses only its own share.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::Status;
use tower::{Layer, Service};

use super::recheck::STREAMING_RPCS;
use crate::grpc::{
    ApiError,
    limiters::{Limiters, MAX_UNCOUNTED_BYTES},
    permits::{Limiter, Permit, PermitHolder},
};

/// Counts the bytes of long requests and responses.
#[derive(Clone, Debug)]
pub struct MessageMemoryLayer(Limiters);

impl MessageMemoryLayer {
    /// Creates a layer with these limits.
    #[must_use]
    pub fn new(limiters: Limiters) -> Self {
        Self(limiters)
    }
}

impl<S> Layer<S> for MessageMemoryLayer {
    type Service = MessageMemory<S>;

    fn layer(&self, inner: S) -> Self::Service {
        MessageMemory { inner, limiters: self.0.clone() }
    }
}

/// The service of [`MessageMemoryLayer`].
#[derive(Clone, Debug)]
pub struct MessageMemory<S> {
    inner: S,
    limiters: Limiters,
}

impl<S, Out> Service<Request<tonic::body::Body>> for MessageMemory<S>
where
    S: Service<Request<tonic::body::Body>, Response = Response<Out>>,
    Out: Body<Data = Bytes> + Default + Unpin,
{
    type Response = Response<MeasuredResponse<Out>>;
    type Error = S::Error;
    type Future = MeasuredFuture<S::Future, Out>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        // A stream has at most one message in memory at a time.
        let is_stream = STREAMING_RPCS.contains(&request.uri().path());
        let holder = request.extensions().get::<PermitHolder>().cloned().filter(|_| !is_stream);
        let mut request_permit = None;
        let request = match &holder {
            Some(holder) if !request.body().is_end_stream() => {
                let (limiter, holder) = (self.limiters.request_bytes.clone(), holder.clone());
                let permit = Arc::clone(request_permit.insert(Arc::default()));
                let length = MessageLength { limiter, holder, permit, bytes_read: 0 };
                request.map(|body| tonic::body::Body::new(MeasuredRequest { body, length }))
            }
            _ => request,
        };
        let response_limiter = holder.map(|holder| (self.limiters.response_bytes.clone(), holder));
        MeasuredFuture { answer: self.inner.call(request), response: None, request_permit, response_limiter }
    }
}

/// The bytes of a message in memory.
struct MessageLength {
    limiter: Limiter,
    holder: PermitHolder,
    /// The permit for the bytes. It is held until the response, because the decoded message may wait in a
    /// queue.
    permit: Arc<OnceLock<Permit>>,
    bytes_read: usize,
}

impl MessageLength {
    fn add_bytes(&mut self, more: usize) -> Result<(), Status> {
        self.bytes_read += more;
        if self.bytes_read <= MAX_UNCOUNTED_BYTES {
            return Ok(());
        }
        match self.permit.get() {
            Some(permit) => permit.try_grow(more),
            // Only this method sets it.
            None => self
                .limiter
                .try_acquire(&self.holder, self.bytes_read)
                .map(|permit| drop(self.permit.set(permit))),
        }
        .map_err(|reached| ApiError::from(reached).into())
    }
}

pin_project! {
    /// A request body that counts the bytes read.
    struct MeasuredRequest {
        #[pin]
        body: tonic::body::Body,
        length: MessageLength,
    }
}

impl Body for MeasuredRequest {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(reached) = this.length.add_bytes(data.len())
        {
            return Poll::Ready(Some(Err(reached)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

pin_project! {
    /// The future of [`MessageMemory`].
    pub struct MeasuredFuture<F, Out> {
        #[pin]
        answer: F,
        response: Option<Response<Out>>,
        request_permit: Option<Arc<OnceLock<Permit>>>,
        // `None` for a stream.
        response_limiter: Option<(Limiter, PermitHolder)>,
    }
}

impl<F, Out, E> Future for MeasuredFuture<F, Out>
where
    F: Future<Output = Result<Response<Out>, E>>,
    Out: Body<Data = Bytes> + Default + Unpin,
{
    type Output = Result<Response<MeasuredResponse<Out>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match this.response.take() {
            Some(response) => response,
            None => ready!(this.answer.poll(cx))?,
        };
        *this.request_permit = None;
        let unmeasured = |response: Response<Out>| {
            Poll::Ready(Ok(response.map(|body| MeasuredResponse { body, first: None, permit: None })))
        };
        let Some((limiter, holder)) =
            this.response_limiter.as_ref().filter(|_| !response.body().is_end_stream())
        else {
            return unmeasured(response);
        };
        // The message is serialized here, and not when the caller has flow-control window for it: so its
        // length is known, and the source of the message is freed.
        let first = match Pin::new(response.body_mut()).poll_frame(cx) {
            Poll::Ready(first) => first,
            Poll::Pending => {
                *this.response = Some(response);
                return Poll::Pending;
            }
        };
        let length = first.as_ref().and_then(|first| first.as_ref().ok()?.data_ref().map(Bytes::len));
        let permit = match length {
            Some(length) if length > MAX_UNCOUNTED_BYTES => match limiter.try_acquire(holder, length) {
                Ok(permit) => Some(permit),
                Err(reached) => return unmeasured(Status::from(ApiError::from(reached)).into_http()),
            },
            _ => None,
        };
        Poll::Ready(Ok(response.map(|body| MeasuredResponse { body, first: Some(first), permit })))
    }
}

type FrameResult<B> = Option<Result<Frame<Bytes>, <B as Body>::Error>>;

pin_project! {
    /// A response whose first frame was already polled. The permit is released when the next frame is polled:
    /// by then the peer has flow-control window again, so the first frame was sent.
    pub struct MeasuredResponse<B: Body> {
        #[pin]
        body: B,
        first: Option<FrameResult<B>>,
        permit: Option<Permit>,
    }
}

impl<B: Body<Data = Bytes>> Body for MeasuredResponse<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<FrameResult<B>> {
        let this = self.project();
        if let Some(first) = this.first.take() {
            return Poll::Ready(first);
        }
        *this.permit = None;
        this.body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.first {
            // The hint of the remaining body is not that of the whole response.
            Some(_) => SizeHint::default(),
            None => self.body.size_hint(),
        }
    }
}

impl<B: Body + Default> Default for MeasuredResponse<B> {
    fn default() -> Self {
        Self { body: B::default(), first: None, permit: None }
    }
}

#[cfg(test)]
mod tests;
