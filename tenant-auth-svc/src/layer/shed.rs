//! Refuses at once what would be too much at once.
//!
//! The bound is that of the whole process: one per connection would not bound anything, since callers open as many as
//! they like. A request that is over it costs next to nothing, and its caller can go to another replica, instead of
//! joining a queue whose every member is answered too late.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::future::{Either, Ready, ready};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::Status;
use tower::{Layer, Service};

use crate::grpc::{
    ApiError,
    places::{Place, Places},
};

/// Whether a service's requests need a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// They do: this is the traffic that can grow without end.
    Bounded,
    /// They do not, so that probes and operators get through when they are needed most. The database has an allowance
    /// of its own for what operators do.
    Free,
}

/// On which side each service is. What is not here is bounded: nobody knows it.
pub const SERVICES: [(&str, Side); 9] = [
    ("tenantauth.v1.ValidationService", Side::Bounded),
    ("tenantauth.v1.SessionService", Side::Bounded),
    ("tenantauth.v1.UsageService", Side::Bounded),
    ("tenantauth.v1.WatchService", Side::Bounded),
    ("tenantauth.v1.AdminService", Side::Free),
    ("tenantauth.v1.InfoService", Side::Free),
    ("grpc.health.v1.Health", Side::Free),
    ("grpc.reflection.v1.ServerReflection", Side::Free),
    ("grpc.reflection.v1alpha.ServerReflection", Side::Free),
];

/// The side of the service that a path `/service/method` leads to.
#[must_use]
pub fn side(path: &str) -> Side {
    let service = path.strip_prefix('/').and_then(|path| path.split_once('/')).map(|(service, _)| service);
    let known = SERVICES.iter().find(|(name, _)| Some(*name) == service);
    known.map_or(Side::Bounded, |(_, side)| *side)
}

/// Gives each request a place, or refuses it.
///
/// A request keeps its place until the body of its answer has ended, or its caller has left. A handler whose RPC is a
/// stream gives the place back when it has opened it: see [`Place::release`].
#[derive(Clone, Debug)]
pub struct ShedLayer(Places);

impl ShedLayer {
    /// Gives out these.
    #[must_use]
    pub fn new(places: Places) -> Self {
        Self(places)
    }
}

impl<S> Layer<S> for ShedLayer {
    type Service = Shed<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Shed { inner, places: self.0.clone() }
    }
}

/// The service of [`ShedLayer`].
#[derive(Clone, Debug)]
pub struct Shed<S> {
    inner: S,
    places: Places,
}

impl<S, In, Out> Service<Request<In>> for Shed<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
    Out: Default,
{
    type Response = Response<PlacedBody<Out>>;
    type Error = S::Error;
    type Future = Either<Ready<Result<Self::Response, S::Error>>, Placed<S::Future>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<In>) -> Self::Future {
        let place = match side(request.uri().path()) {
            Side::Free => None,
            Side::Bounded => {
                let Some(place) = self.places.take() else {
                    return Either::Left(ready(Ok(refusal(self.places.limit()))));
                };
                let place = Arc::new(place);
                request.extensions_mut().insert(Arc::clone(&place));
                Some(place)
            }
        };
        Either::Right(Placed { answer: self.inner.call(request), place })
    }
}

fn refusal<Out: Default>(limit: usize) -> Response<PlacedBody<Out>> {
    let refusal = Status::from(ApiError::Overloaded { limit }).into_http();
    refusal.map(|body| PlacedBody { body, place: None })
}

pin_project! {
    /// A request in its place.
    pub struct Placed<F> {
        #[pin]
        answer: F,
        place: Option<Arc<Place>>,
    }
}

impl<F, Out, E> Future for Placed<F>
where
    F: Future<Output = Result<Response<Out>, E>>,
{
    type Output = Result<Response<PlacedBody<Out>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.answer.poll(cx))?;
        let place = this.place.take();
        Poll::Ready(Ok(response.map(|body| PlacedBody { body, place })))
    }
}

pin_project! {
    /// A body that keeps the request's place until it ends.
    pub struct PlacedBody<B> {
        #[pin]
        body: B,
        place: Option<Arc<Place>>,
    }
}

impl<B: Body> Body for PlacedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(cx));
        // Whoever drives the body may keep it for a while after its end.
        if frame.as_ref().is_none_or(|frame| frame.as_ref().map_or(true, Frame::is_trailers))
            && let Some(place) = this.place.take()
        {
            place.release();
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
