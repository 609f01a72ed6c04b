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

use super::recheck::STREAMS;
use crate::grpc::{
    ApiError,
    limiters::{Pools, SMALL},
    permits::{Holder, Place, Places},
};

/// Counts the bytes of requests and answers that are long.
#[derive(Clone, Debug)]
pub struct MeterLayer(Pools);

impl MeterLayer {
    /// Within these bounds.
    #[must_use]
    pub fn new(pools: Pools) -> Self {
        Self(pools)
    }
}

impl<S> Layer<S> for MeterLayer {
    type Service = Meter<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Meter { inner, pools: self.0.clone() }
    }
}

/// The service of [`MeterLayer`].
#[derive(Clone, Debug)]
pub struct Meter<S> {
    inner: S,
    pools: Pools,
}

impl<S, Out> Service<Request<tonic::body::Body>> for Meter<S>
where
    S: Service<Request<tonic::body::Body>, Response = Response<Out>>,
    Out: Body<Data = Bytes> + Default + Unpin,
{
    type Response = Response<MeteredAnswer<Out>>;
    type Error = S::Error;
    type Future = Metered<S::Future, Out>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        // Messages of a stream come and go: there is never more than one of them in memory.
        let is_stream = STREAMS.contains(&request.uri().path());
        let holder = request.extensions().get::<Holder>().cloned().filter(|_| !is_stream);
        let mut asked = None;
        let request = match &holder {
            Some(holder) if !request.body().is_end_stream() => {
                let (places, holder) = (self.pools.asked.clone(), holder.clone());
                let place = Arc::clone(asked.insert(Arc::default()));
                let length = Length { places, holder, place, read: 0 };
                request.map(|body| tonic::body::Body::new(Asked { body, length }))
            }
            _ => request,
        };
        let answered = holder.map(|holder| (self.pools.answered.clone(), holder));
        Metered { answer: self.inner.call(request), response: None, asked, answered }
    }
}

/// How much of a message is in memory.
struct Length {
    places: Places,
    holder: Holder,
    /// What it is counted by: until its answer is there, since what was made of it may wait for its turn.
    place: Arc<OnceLock<Place>>,
    read: usize,
}

impl Length {
    fn add(&mut self, more: usize) -> Result<(), Status> {
        self.read += more;
        if self.read <= SMALL {
            return Ok(());
        }
        match self.place.get() {
            Some(place) => place.grow(more),
            // Nobody else sets it.
            None => self.places.take(&self.holder, self.read).map(|place| drop(self.place.set(place))),
        }
        .map_err(|full| ApiError::from(full).into())
    }
}

pin_project! {
    /// A request's body that counts what was read of it.
    struct Asked {
        #[pin]
        body: tonic::body::Body,
        length: Length,
    }
}

impl Body for Asked {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(full) = this.length.add(data.len())
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
    /// The future of [`Meter`].
    pub struct Metered<F, Out> {
        #[pin]
        answer: F,
        response: Option<Response<Out>>,
        asked: Option<Arc<OnceLock<Place>>>,
        // `None` for a stream.
        answered: Option<(Places, Holder)>,
    }
}

impl<F, Out, E> Future for Metered<F, Out>
where
    F: Future<Output = Result<Response<Out>, E>>,
    Out: Body<Data = Bytes> + Default + Unpin,
{
    type Output = Result<Response<MeteredAnswer<Out>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match this.response.take() {
            Some(response) => response,
            None => ready!(this.answer.poll(cx))?,
        };
        *this.asked = None;
        let unmetered = |response: Response<Out>| {
            Poll::Ready(Ok(response.map(|body| MeteredAnswer { body, first: None, place: None })))
        };
        let Some((places, holder)) = this.answered.as_ref().filter(|_| !response.body().is_end_stream())
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
            Some(length) if length > SMALL => match places.take(holder, length) {
                Ok(place) => Some(place),
                Err(full) => return unmetered(Status::from(ApiError::from(full)).into_http()),
            },
            _ => None,
        };
        Poll::Ready(Ok(response.map(|body| MeteredAnswer { body, first: Some(first), place })))
    }
}

type Item<B> = Option<Result<Frame<Bytes>, <B as Body>::Error>>;

pin_project! {
    /// An answer whose first frame is there already. What it holds is given back when the frame after that is asked for: by
    /// then the peer has made room for what came before.
    pub struct MeteredAnswer<B: Body> {
        #[pin]
        body: B,
        first: Option<Item<B>>,
        place: Option<Place>,
    }
}

impl<B: Body<Data = Bytes>> Body for MeteredAnswer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Item<B>> {
        let this = self.project();
        if let Some(first) = this.first.take() {
            return Poll::Ready(first);
        }
        *this.place = None;
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

impl<B: Body + Default> Default for MeteredAnswer<B> {
    fn default() -> Self {
        Self { body: B::default(), first: None, place: None }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::future::poll_fn;
    use http_body_util::{BodyExt as _, Full as Whole};
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    const LONG: usize = 1_024 * 1_024;

    fn request(path: &str, length: usize) -> Request<tonic::body::Body> {
        let holder = Holder { name: "api".into(), is_known: true };
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

    fn status(response: &Response<MeteredAnswer<tonic::body::Body>>) -> Option<&str> {
        response.headers().get("grpc-status").and_then(|status| status.to_str().ok())
    }

    #[tokio::test]
    async fn answers_that_nobody_reads_fill_their_callers_share_and_no_more() {
        let pools = Pools::new(100, 100, 50);
        let service = || MeterLayer::new(pools.clone()).layer(service_fn(echo));
        let mut unread = Vec::new();
        let refused = loop {
            let answer = service().oneshot(request("/any", LONG)).await.unwrap();
            match status(&answer) {
                None => unread.push(answer),
                Some(status) => break status.to_owned(),
            }
        };
        assert_eq!((refused.as_str(), unread.len()), ("8", 16), "RESOURCE_EXHAUSTED after 16 MiB");
        assert_eq!(pools.answered.taken(), 16 * LONG);
        assert_eq!(pools.asked.taken(), 0, "what was answered is no longer counted");
        let short = service().oneshot(request("/any", SMALL)).await.unwrap();
        assert_eq!(status(&short), None, "short ones go on");

        // One that is read makes room.
        let mut body = unread.pop().unwrap().into_body();
        let first = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.unwrap().unwrap();
        assert_eq!((first.data_ref().unwrap().len(), pools.answered.taken()), (LONG, 16 * LONG));
        assert!(poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.is_none());
        assert_eq!(pools.answered.taken(), 15 * LONG);
        drop(unread);
        assert_eq!(pools.answered.taken(), 0);
    }

    #[tokio::test]
    async fn requests_that_never_end_fill_their_callers_share_and_no_more() {
        let pools = Pools::new(100, 100, 50);
        let mut halves = Vec::new();
        for _ in 0..17 {
            let halting = request("/any", LONG).map(|body| {
                let never = futures::stream::pending();
                let frames = futures::StreamExt::chain(http_body_util::BodyStream::new(body), never);
                tonic::body::Body::new(http_body_util::StreamBody::new(frames))
            });
            let mut answer =
                Box::pin(MeterLayer::new(pools.clone()).layer(service_fn(echo)).oneshot(halting));
            match futures::poll!(&mut answer) {
                Poll::Pending => halves.push(answer),
                Poll::Ready(refused) => assert_eq!(status(&refused.unwrap()), Some("8")),
            }
        }
        assert_eq!((halves.len(), pools.asked.taken()), (16, 16 * LONG));
        drop(halves);
        assert_eq!(pools.asked.taken(), 0, "who leaves gives back");
    }
    #[tokio::test]
    async fn what_waits_for_its_turn_is_counted_until_it_is_answered() {
        let pools = Pools::new(100, 100, 50);
        let turn = tokio::sync::Semaphore::new(0);
        let waits = service_fn(async |request: Request<tonic::body::Body>| {
            let read = request.into_body().collect().await.map(|whole| whole.to_bytes().len());
            let _turn = turn.acquire().await;
            Ok::<_, Infallible>(Response::new(tonic::body::Body::new(format!("{read:?}"))))
        });
        let mut answer = Box::pin(MeterLayer::new(pools.clone()).layer(waits).oneshot(request("/any", LONG)));
        assert!(futures::poll!(&mut answer).is_pending());
        assert_eq!(pools.asked.taken(), LONG, "its body is gone, and what was made of it is not");
        turn.add_permits(1);
        let _answer = answer.await.unwrap();
        assert_eq!(pools.asked.taken(), 0);
    }
}
