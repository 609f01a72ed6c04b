//! Observes how every RPC ends, for two who want to know: the metrics and the log.
//!
//! It stands outside of everything that refuses, so that what is refused is counted and logged too, and both tell the same end.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use tower::{Layer, Service};

use super::{
    access_log::Line,
    metrics::{Counting, Rpcs},
    rpc_observer::{Followed, FollowedBody},
};

/// Observes every RPC.
#[derive(Clone, Debug)]
pub struct RpcObserverLayer(Arc<Rpcs>);

impl RpcObserverLayer {
    /// Counts there, and logs.
    #[must_use]
    pub fn new(rpcs: Arc<Rpcs>) -> Self {
        Self(rpcs)
    }
}

impl<S> Layer<S> for RpcObserverLayer {
    type Service = RpcObserver<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RpcObserver { inner, rpcs: Arc::clone(&self.0) }
    }
}

/// The service of [`RpcObserverLayer`].
#[derive(Clone, Debug)]
pub struct RpcObserver<S> {
    inner: S,
    rpcs: Arc<Rpcs>,
}

impl<S, In, Out> Service<Request<In>> for RpcObserver<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
    Out: Body,
{
    type Response = Response<FollowedBody<Out, (Counting, Line)>>;
    type Error = S::Error;
    type Future = Followed<S::Future, (Counting, Line)>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        let readers = (Counting::of(&self.rpcs, &request), Line::of(&request));
        Followed::new(self.inner.call(request), Some(readers))
    }
}
