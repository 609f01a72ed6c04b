//! MCP servers: a tower layer with keys, sessions, a policy and usage, and handles.

mod body;
mod builder;
mod decision;
mod events;
mod exchange;
mod handles;
mod headers;
mod lists;
mod members;
mod message;
mod metadata;
mod operation;
mod policy;
mod rejection;
mod response;
mod revision;
mod session;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use self::{body::BoxError, builder::Settings};
pub use self::{
    body::McpRequestBody,
    builder::McpLayerBuilder,
    exchange::McpBody,
    handles::{HandleError, McpHandles},
    policy::{McpPolicy, McpRule},
};
use crate::Client;

/// A tower layer for MCP servers with the Streamable HTTP transport, such as rmcp's `StreamableHttpService`: requests with a
/// valid key, a session of its tenant, and the scopes of the policy proceed, with the [`Principal`](crate::Principal) in their
/// extensions.
///
/// It serves the revisions with a handshake and sessions, and the stateless ones since 2026-07-28. It ends event streams when
/// the key may no longer be used. A CORS preflight (`OPTIONS` with `origin` and
/// `access-control-request-method`) proceeds without a principal. The README has the table of rejections.
#[derive(Clone, Debug)]
#[must_use]
pub struct McpLayer(Arc<Settings>);

impl McpLayer {
    /// Starts a layer that reads the key from `authorization: Bearer …`.
    pub fn builder(client: Client) -> McpLayerBuilder {
        McpLayerBuilder::new(client)
    }
}

impl<S> Layer<S> for McpLayer {
    type Service = McpService<S>;

    fn layer(&self, inner: S) -> McpService<S> {
        McpService { inner, settings: Arc::clone(&self.0) }
    }
}

/// The service behind an [`McpLayer`].
#[derive(Clone, Debug)]
pub struct McpService<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S, B, R> Service<Request<B>> for McpService<S>
where
    S: Service<Request<McpRequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<McpBody>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let settings = Arc::clone(&self.settings);
        // `self.inner` is the service that was polled ready; the clone serves the next request.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        Box::pin(async move { exchange::answer(&settings, &mut inner, request).await })
    }
}
