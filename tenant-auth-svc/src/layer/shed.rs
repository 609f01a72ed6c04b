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

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::pending};

    use futures::{FutureExt as _, future::poll_fn};
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    const VALIDATE: &str = "/tenantauth.v1.ValidationService/ValidateKey";

    fn to(path: &str) -> Request<()> {
        Request::builder().uri(path).body(()).unwrap()
    }

    /// What the inner service does is told by the method's name; its answer is a body of one frame.
    async fn inner(request: Request<()>) -> Result<Response<String>, &'static str> {
        match request.uri().path().rsplit('/').next() {
            Some("Hang") => pending().await,
            Some("Panic") => panic!("as asked"),
            Some("Fail") => Err("as asked"),
            Some("Open") => {
                request.extensions().get::<Arc<Place>>().unwrap().release();
                Ok(Response::new("answer".to_owned()))
            }
            _ => Ok(Response::new("answer".to_owned())),
        }
    }

    fn shed(places: &Places) -> Shed<impl Service<Request<()>, Response = Response<String>, Future: Send>> {
        ShedLayer::new(places.clone()).layer(service_fn(inner))
    }

    fn is_free(places: &Places) -> bool {
        places.take().is_some()
    }

    #[tokio::test]
    async fn a_place_is_kept_until_the_body_ends() {
        let places = Places::new(1);
        let response = shed(&places).oneshot(to(VALIDATE)).await.unwrap_or_else(|_| panic!("it answers"));
        let mut body = response.into_body();
        let mut frame = async || poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        assert!(frame().await.unwrap().unwrap().is_data());
        assert!(!is_free(&places));
        assert!(frame().await.is_none());
        assert!(is_free(&places), "though the body is still there");
    }

    #[tokio::test]
    async fn without_a_place_a_request_is_refused_and_does_not_come_through() {
        let places = Places::new(1);
        let _taken = places.take();
        let must_not = service_fn(async |_: Request<()>| -> Result<Response<String>, Infallible> {
            panic!("it came through")
        });
        let refused = ShedLayer::new(places).layer(must_not).oneshot(to(VALIDATE)).await.unwrap();
        assert_eq!(refused.headers()["grpc-status"], "8", "RESOURCE_EXHAUSTED, in the headers");
        assert!(refused.body().is_end_stream());
    }

    #[tokio::test]
    async fn however_a_request_ends_its_place_is_free() {
        let places = Places::new(1);
        let call = |method: &str| shed(&places).oneshot(to(&format!("/tenantauth.v1.UsageService/{method}")));
        let answered = call("Answer").await;
        assert!(!is_free(&places));
        drop(answered);
        assert!(is_free(&places), "the answer was not read to its end");
        assert!(call("Fail").await.is_err());
        assert!(is_free(&places));
        let hanging = call("Hang").now_or_never();
        assert!(hanging.is_none() && is_free(&places), "the caller has left");
        assert!(std::panic::AssertUnwindSafe(call("Panic")).catch_unwind().await.is_err());
        assert!(is_free(&places));
        let open = call("Open").await;
        assert!(open.is_ok() && is_free(&places), "a stream gave its place back");
        let other = places.take();
        drop(open);
        assert!(!is_free(&places), "and not for a second time at its end");
        drop(other);
    }

    #[tokio::test]
    async fn probes_and_operators_need_no_place() {
        let places = Places::new(1);
        let _taken = places.take();
        let free = SERVICES.iter().filter(|(_, side)| *side == Side::Free);
        for (service, _) in free {
            let answer = shed(&places).oneshot(to(&format!("/{service}/Any"))).await;
            assert!(answer.is_ok_and(|answer| answer.body().body == "answer"), "{service}");
        }
    }

    #[test]
    fn what_nobody_knows_is_bounded() {
        assert_eq!(side("/grpc.health.v1.Health/Check"), Side::Free);
        for path in ["/", "", "/grpc.health.v1.Health", "/grpc.health.v1.HealthX/Check", "/made.up.Service/X"]
        {
            assert_eq!(side(path), Side::Bounded, "{path}");
        }
    }
}
