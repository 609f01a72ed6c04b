//! Bounds the bytes of requests that are not answered and of answers that are not read.
//!
//! Requests and answers are few kilobytes at most, nearly all of them, and there are no more of these than places. Those that
//! are longer (a batch of a thousand keys, a page of a listing) are counted here, by bytes, for as long as they are in memory:
//! a caller that sends half of each request, or never reads, fills its own share and nobody else's.

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

/// Counts the bytes of requests and answers that are long.
#[derive(Clone, Debug)]
pub struct MessageMemoryLayer(Limiters);

impl MessageMemoryLayer {
    /// Within these bounds.
    #[must_use]
    pub fn new(pools: Limiters) -> Self {
        Self(pools)
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
        // Messages of a stream come and go: there is never more than one of them in memory.
        let is_stream = STREAMING_RPCS.contains(&request.uri().path());
        let holder = request.extensions().get::<PermitHolder>().cloned().filter(|_| !is_stream);
        let mut asked = None;
        let request = match &holder {
            Some(holder) if !request.body().is_end_stream() => {
                let (places, holder) = (self.limiters.request_bytes.clone(), holder.clone());
                let place = Arc::clone(asked.insert(Arc::default()));
                let length = MessageLength { limiter: places, holder, permit: place, bytes_read: 0 };
                request.map(|body| tonic::body::Body::new(MeasuredRequest { body, length }))
            }
            _ => request,
        };
        let answered = holder.map(|holder| (self.limiters.response_bytes.clone(), holder));
        MeasuredFuture {
            answer: self.inner.call(request),
            response: None,
            request_permit: asked,
            response_limiter: answered,
        }
    }
}

/// How much of a message is in memory.
struct MessageLength {
    limiter: Limiter,
    holder: PermitHolder,
    /// What it is counted by: until its answer is there, since what was made of it may wait for its turn.
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
            Some(place) => place.try_grow(more),
            // Nobody else sets it.
            None => self
                .limiter
                .try_acquire(&self.holder, self.bytes_read)
                .map(|place| drop(self.permit.set(place))),
        }
        .map_err(|full| ApiError::from(full).into())
    }
}

pin_project! {
    /// A request's body that counts what was read of it.
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
            && let Err(full) = this.length.add_bytes(data.len())
        {
            return Poll::Ready(Some(Err(full)));
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
        let unmetered = |response: Response<Out>| {
            Poll::Ready(Ok(response.map(|body| MeasuredResponse { body, first: None, permit: None })))
        };
        let Some((places, holder)) =
            this.response_limiter.as_ref().filter(|_| !response.body().is_end_stream())
        else {
            return unmetered(response);
        };
        // The message becomes bytes here, and not when its caller has room for it: so its length is known, and what it was
        // made of is gone.
        let first = match Pin::new(response.body_mut()).poll_frame(cx) {
            Poll::Ready(first) => first,
            Poll::Pending => {
                *this.response = Some(response);
                return Poll::Pending;
            }
        };
        let length = first.as_ref().and_then(|first| first.as_ref().ok()?.data_ref().map(Bytes::len));
        let place = match length {
            Some(length) if length > MAX_UNCOUNTED_BYTES => match places.try_acquire(holder, length) {
                Ok(place) => Some(place),
                Err(full) => return unmetered(Status::from(ApiError::from(full)).into_http()),
            },
            _ => None,
        };
        Poll::Ready(Ok(response.map(|body| MeasuredResponse { body, first: Some(first), permit: place })))
    }
}

type FrameResult<B> = Option<Result<Frame<Bytes>, <B as Body>::Error>>;

pin_project! {
    /// An answer whose first frame is there already. What it holds is given back when the frame after that is asked for: by
    /// then the peer has made room for what came before.
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
            // That of what comes after it is not that of the whole.
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
mod tests {
    use std::convert::Infallible;

    use futures::future::poll_fn;
    use http_body_util::{BodyExt as _, Full as Whole};
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    const LONG_MESSAGE_BYTES: usize = 1_024 * 1_024;

    fn request(path: &str, length: usize) -> Request<tonic::body::Body> {
        let holder = PermitHolder { name: "api".into(), is_known: true };
        let body = tonic::body::Body::new(Whole::new(Bytes::from(vec![0; length])));
        Request::builder().uri(path).extension(holder).body(body).unwrap()
    }

    /// Answers with as many bytes as it was asked with.
    async fn echo(request: Request<tonic::body::Body>) -> Result<Response<tonic::body::Body>, Infallible> {
        let body = match request.into_body().collect().await {
            Ok(whole) => tonic::body::Body::new(Whole::new(whole.to_bytes())),
            Err(status) => return Ok(status.into_http()),
        };
        Ok(Response::new(body))
    }

    fn status(response: &Response<MeasuredResponse<tonic::body::Body>>) -> Option<&str> {
        response.headers().get("grpc-status").and_then(|status| status.to_str().ok())
    }

    #[tokio::test]
    async fn unread_responses_fill_only_their_callers_share() {
        let pools = Limiters::new(100, 100, 50);
        let service = || MessageMemoryLayer::new(pools.clone()).layer(service_fn(echo));
        let mut unread = Vec::new();
        let refused = loop {
            let answer = service().oneshot(request("/any", LONG_MESSAGE_BYTES)).await.unwrap();
            match status(&answer) {
                None => unread.push(answer),
                Some(status) => break status.to_owned(),
            }
        };
        assert_eq!((refused.as_str(), unread.len()), ("8", 16), "RESOURCE_EXHAUSTED after 16 MiB");
        assert_eq!(pools.response_bytes.taken(), 16 * LONG_MESSAGE_BYTES);
        assert_eq!(pools.request_bytes.taken(), 0, "what was answered is no longer counted");
        let short = service().oneshot(request("/any", MAX_UNCOUNTED_BYTES)).await.unwrap();
        assert_eq!(status(&short), None, "short ones go on");

        // One that is read makes room.
        let mut body = unread.pop().unwrap().into_body();
        let first = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.unwrap().unwrap();
        assert_eq!(
            (first.data_ref().unwrap().len(), pools.response_bytes.taken()),
            (LONG_MESSAGE_BYTES, 16 * LONG_MESSAGE_BYTES)
        );
        assert!(poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.is_none());
        assert_eq!(pools.response_bytes.taken(), 15 * LONG_MESSAGE_BYTES);
        drop(unread);
        assert_eq!(pools.response_bytes.taken(), 0);
    }

    #[tokio::test]
    async fn unfinished_requests_fill_only_their_callers_share() {
        let pools = Limiters::new(100, 100, 50);
        let mut halves = Vec::new();
        for _ in 0..17 {
            let halting = request("/any", LONG_MESSAGE_BYTES).map(|body| {
                let never = futures::stream::pending();
                let frames = futures::StreamExt::chain(http_body_util::BodyStream::new(body), never);
                tonic::body::Body::new(http_body_util::StreamBody::new(frames))
            });
            let mut answer =
                Box::pin(MessageMemoryLayer::new(pools.clone()).layer(service_fn(echo)).oneshot(halting));
            match futures::poll!(&mut answer) {
                Poll::Pending => halves.push(answer),
                Poll::Ready(refused) => assert_eq!(status(&refused.unwrap()), Some("8")),
            }
        }
        assert_eq!((halves.len(), pools.request_bytes.taken()), (16, 16 * LONG_MESSAGE_BYTES));
        drop(halves);
        assert_eq!(pools.request_bytes.taken(), 0, "who leaves gives back");
    }
    #[tokio::test]
    async fn waiting_request_is_counted_until_it_is_answered() {
        let pools = Limiters::new(100, 100, 50);
        let turn = tokio::sync::Semaphore::new(0);
        let waits = service_fn(async |request: Request<tonic::body::Body>| {
            let read = request.into_body().collect().await.map(|whole| whole.to_bytes().len());
            let _turn = turn.acquire().await;
            Ok::<_, Infallible>(Response::new(tonic::body::Body::new(format!("{read:?}"))))
        });
        let mut answer = Box::pin(
            MessageMemoryLayer::new(pools.clone()).layer(waits).oneshot(request("/any", LONG_MESSAGE_BYTES)),
        );
        assert!(futures::poll!(&mut answer).is_pending());
        assert_eq!(
            pools.request_bytes.taken(),
            LONG_MESSAGE_BYTES,
            "its body is gone, and what was made of it is not"
        );
        turn.add_permits(1);
        let _answer = answer.await.unwrap();
        assert_eq!(pools.request_bytes.taken(), 0);
    }
}
