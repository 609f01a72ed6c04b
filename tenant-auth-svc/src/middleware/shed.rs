//! Refuses at once what would be too much at once.
//!
//! The bound is that of the whole process: one per connection would not bound anything, since callers open as many as
//! they like. A request that is over it costs next to nothing, and its caller can go to another replica, instead of
//! joining a queue whose every member is answered too late. Of what there is, one caller has a share, and whoever is not
//! known a small one: nobody can keep everybody else out.

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

use super::recheck::STREAMING_RPCS;
use crate::grpc::{
    ApiError,
    limiters::Limiters,
    permits::{LimitReached, Permit, PermitHolder},
};

/// Whether a service's requests need a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermitClass {
    /// They do: this is the traffic that can grow without end.
    Requests,
    /// They have places of their own, so that probes and operators get through when they are needed most. The database has an
    /// allowance of its own for what operators do.
    Operators,
}

/// On which side each service is. What is not here is bounded: nobody knows it.
pub const SERVICE_PERMIT_CLASSES: [(&str, PermitClass); 9] = [
    ("tenantauth.v1.ValidationService", PermitClass::Requests),
    ("tenantauth.v1.SessionService", PermitClass::Requests),
    ("tenantauth.v1.UsageService", PermitClass::Requests),
    ("tenantauth.v1.WatchService", PermitClass::Requests),
    ("tenantauth.v1.AdminService", PermitClass::Operators),
    ("tenantauth.v1.InfoService", PermitClass::Operators),
    ("grpc.health.v1.Health", PermitClass::Operators),
    ("grpc.reflection.v1.ServerReflection", PermitClass::Operators),
    ("grpc.reflection.v1alpha.ServerReflection", PermitClass::Operators),
];

/// The side of the service that a path `/service/method` leads to.
#[must_use]
pub fn permit_class(path: &str) -> PermitClass {
    let service = path.strip_prefix('/').and_then(|path| path.split_once('/')).map(|(service, _)| service);
    let known = SERVICE_PERMIT_CLASSES.iter().find(|(name, _)| Some(*name) == service);
    known.map_or(PermitClass::Requests, |(_, side)| *side)
}

/// Gives each request a place, or refuses it.
///
/// A request keeps its place until the body of its answer has ended, or its caller has left. A handler whose RPC is a
/// stream gives the place back when it has opened it (see [`Place::release`]); the stream itself keeps one of those for
/// streams to its end.
#[derive(Clone, Debug)]
pub struct ShedLayer(Limiters);

impl ShedLayer {
    /// Gives out these.
    #[must_use]
    pub fn new(pools: Limiters) -> Self {
        Self(pools)
    }
}

impl<S> Layer<S> for ShedLayer {
    type Service = Shed<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Shed { inner, limiters: self.0.clone() }
    }
}

/// The service of [`ShedLayer`].
#[derive(Clone, Debug)]
pub struct Shed<S> {
    inner: S,
    limiters: Limiters,
}

impl<S> Shed<S> {
    /// What a request keeps: its place, and that of its stream.
    fn admit<In>(&self, request: &mut Request<In>) -> Result<RequestPermits, LimitReached> {
        let path = request.uri().path();
        // Without the layer that identifies there is nobody to trust.
        let stranger = || PermitHolder { name: "".into(), is_known: false };
        let holder = request.extensions().get().cloned().unwrap_or_else(stranger);
        let stream = match STREAMING_RPCS.contains(&path) {
            true => Some(self.limiters.streams.try_acquire(&holder, 1)?),
            false => None,
        };
        let request_place = match permit_class(path) {
            PermitClass::Requests => {
                let place = Arc::new(self.limiters.requests.try_acquire(&holder, 1)?);
                request.extensions_mut().insert(Arc::clone(&place));
                Some(place)
            }
            PermitClass::Operators if stream.is_none() => {
                Some(Arc::new(self.limiters.operators.try_acquire(&holder, 1)?))
            }
            PermitClass::Operators => None,
        };
        Ok(RequestPermits { request: request_place, stream })
    }
}

/// The places of a request.
#[derive(Debug)]
struct RequestPermits {
    request: Option<Arc<Permit>>,
    stream: Option<Permit>,
}

impl RequestPermits {
    fn release(&self) {
        self.request.iter().for_each(|place| place.release());
        self.stream.iter().for_each(Permit::release);
    }
}

impl<S, In, Out> Service<Request<In>> for Shed<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
    Out: Default,
{
    type Response = Response<PermittedBody<Out>>;
    type Error = S::Error;
    type Future = Either<Ready<Result<Self::Response, S::Error>>, PermittedFuture<S::Future>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<In>) -> Self::Future {
        match self.admit(&mut request) {
            Err(full) => Either::Left(ready(Ok(refusal_response(full)))),
            Ok(places) => {
                Either::Right(PermittedFuture { answer: self.inner.call(request), permits: Some(places) })
            }
        }
    }
}

fn refusal_response<Out: Default>(full: LimitReached) -> Response<PermittedBody<Out>> {
    let refusal = Status::from(ApiError::from(full)).into_http();
    refusal.map(|body| PermittedBody { body, permits: None })
}

pin_project! {
    /// A request in its place.
    pub struct PermittedFuture<F> {
        #[pin]
        answer: F,
        permits: Option<RequestPermits>,
    }
}

impl<F, Out, E> Future for PermittedFuture<F>
where
    F: Future<Output = Result<Response<Out>, E>>,
{
    type Output = Result<Response<PermittedBody<Out>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.answer.poll(cx))?;
        let places = this.permits.take();
        Poll::Ready(Ok(response.map(|body| PermittedBody { body, permits: places })))
    }
}

pin_project! {
    /// A body that keeps the request's place until it ends.
    pub struct PermittedBody<B> {
        #[pin]
        body: B,
        permits: Option<RequestPermits>,
    }
}

impl<B: Body> Body for PermittedBody<B> {
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
            && let Some(places) = this.permits.take()
        {
            places.release();
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
mod tests;
