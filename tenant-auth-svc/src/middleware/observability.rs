//! Observes the end of every RPC for the metrics and the access log.
//!
//! The layer is outside of all layers that refuse requests, so refused requests are counted and logged too,
//! and both report the same outcome.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use tower::{Layer, Service};

use super::{
    access_log::AccessLogLine,
    metrics::{RpcCounting, RpcMetrics},
    rpc_observer::{ObservedBody, ObservedFuture},
};

/// Observes every RPC.
#[derive(Clone, Debug)]
pub struct RpcObserverLayer(Arc<RpcMetrics>);

impl RpcObserverLayer {
    /// Creates a layer that counts in `rpcs` and writes the access log.
    #[must_use]
    pub fn new(rpcs: Arc<RpcMetrics>) -> Self {
        Self(rpcs)
    }
}

impl<S> Layer<S> for RpcObserverLayer {
    type Service = ObserveRpc<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ObserveRpc { inner, metrics: Arc::clone(&self.0) }
    }
}

/// The service of [`RpcObserverLayer`].
#[derive(Clone, Debug)]
pub struct ObserveRpc<S> {
    inner: S,
    metrics: Arc<RpcMetrics>,
}

impl<S, In, Out> Service<Request<In>> for ObserveRpc<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
    Out: Body,
{
    type Response = Response<ObservedBody<Out, (RpcCounting, AccessLogLine)>>;
    type Error = S::Error;
    type Future = ObservedFuture<S::Future, (RpcCounting, AccessLogLine)>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        let readers = (RpcCounting::start(&self.metrics, &request), AccessLogLine::from_request(&request));
        ObservedFuture::new(self.inner.call(request), Some(readers))
    }
}
