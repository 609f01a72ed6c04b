//! Refuses requests beyond the limits at once.
//!
//! The limit applies to the process: a limit per connection would limit nothing, since callers may open any
//! number of connections. A refusal costs very little, and its caller can use another replica, instead of
//! waiting in a queue in which every response is late. One caller has a share of the permits, and unknown
//! callers have a small one, so that no caller can block all others.

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

/// The limiter that the requests of a service use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermitClass {
    /// The `requests` limiter: this traffic can grow without limit.
    Requests,
    /// A separate limiter, so that probes and operators are served under overload. The database client has a
    /// separate lane for operators, too.
    Operators,
}

/// The class of each service. A service that is not listed uses `Requests`.
pub const SERVICE_PERMIT_CLASSES: [(&str, PermitClass); 11] = [
    ("tenantauth.v1.ValidationService", PermitClass::Requests),
    ("envoy.service.auth.v3.Authorization", PermitClass::Requests),
    ("tenantauth.v1.SessionService", PermitClass::Requests),
    ("tenantauth.v1.LimitService", PermitClass::Requests),
    ("tenantauth.v1.UsageService", PermitClass::Requests),
    ("tenantauth.v1.WatchService", PermitClass::Requests),
    ("tenantauth.v1.AdminService", PermitClass::Operators),
    ("tenantauth.v1.InfoService", PermitClass::Operators),
    ("grpc.health.v1.Health", PermitClass::Operators),
    ("grpc.reflection.v1.ServerReflection", PermitClass::Operators),
    ("grpc.reflection.v1alpha.ServerReflection", PermitClass::Operators),
];

/// Returns the class of the service in a path `/service/method`.
#[must_use]
pub fn permit_class(path: &str) -> PermitClass {
    let service = path.strip_prefix('/').and_then(|path| path.split_once('/')).map(|(service, _)| service);
    let known = SERVICE_PERMIT_CLASSES.iter().find(|(name, _)| Some(*name) == service);
    known.map_or(PermitClass::Requests, |(_, class)| *class)
}

/// Acquires a permit for each request, or refuses the request.
///
/// A request holds its permit until the response body ends or the caller disconnects. The handler of a
/// streaming RPC releases the permit when it has opened the stream (see [`Permit::release`]); the stream
/// holds a permit of `streams` until it ends.
#[derive(Clone, Debug)]
pub struct ShedLayer(Limiters);

impl ShedLayer {
    /// Creates a layer with these limiters.
    #[must_use]
    pub fn new(limiters: Limiters) -> Self {
        Self(limiters)
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
    /// Acquires the permits of a request, and of its stream.
    fn admit<In>(&self, request: &mut Request<In>) -> Result<RequestPermits, LimitReached> {
        let path = request.uri().path();
        // Without the identify layer, the caller is unknown.
        let unknown_caller = || PermitHolder { name: "".into(), is_known: false };
        let holder = request.extensions().get().cloned().unwrap_or_else(unknown_caller);
        let stream = match STREAMING_RPCS.contains(&path) {
            true => Some(self.limiters.streams.try_acquire(&holder, 1)?),
            false => None,
        };
        let request_permit = match permit_class(path) {
            PermitClass::Requests => {
                let permit = Arc::new(self.limiters.requests.try_acquire(&holder, 1)?);
                request.extensions_mut().insert(Arc::clone(&permit));
                Some(permit)
            }
            PermitClass::Operators if stream.is_none() => {
                Some(Arc::new(self.limiters.operators.try_acquire(&holder, 1)?))
            }
            PermitClass::Operators => None,
        };
        Ok(RequestPermits { request: request_permit, stream })
    }
}

/// The permits of a request.
#[derive(Debug)]
struct RequestPermits {
    request: Option<Arc<Permit>>,
    stream: Option<Permit>,
}

impl RequestPermits {
    fn release(&self) {
        self.request.iter().for_each(|permit| permit.release());
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
            Err(reached) => Either::Left(ready(Ok(refusal_response(reached)))),
            Ok(permits) => {
                Either::Right(PermittedFuture { answer: self.inner.call(request), permits: Some(permits) })
            }
        }
    }
}

fn refusal_response<Out: Default>(reached: LimitReached) -> Response<PermittedBody<Out>> {
    let refusal = Status::from(ApiError::from(reached)).into_http();
    refusal.map(|body| PermittedBody { body, permits: None })
}

pin_project! {
    /// The future of a request with permits.
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
        let permits = this.permits.take();
        Poll::Ready(Ok(response.map(|body| PermittedBody { body, permits })))
    }
}

pin_project! {
    /// A body that holds the request's permits until it ends.
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
        // The connection may keep the body for some time after its end.
        if frame.as_ref().is_none_or(|frame| frame.as_ref().map_or(true, Frame::is_trailers))
            && let Some(permits) = this.permits.take()
        {
            permits.release();
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
