//! Calls of this process to its own gRPC services, through the whole middleware stack.

use std::{
    convert::Infallible,
    fmt,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use tenant_auth_proto::v1::{
    admin_service_client::AdminServiceClient, info_service_client::InfoServiceClient,
    limit_service_client::LimitServiceClient, session_service_client::SessionServiceClient,
    usage_service_client::UsageServiceClient,
};
use tonic::body::Body;
use tower::{Service, util::BoxCloneSyncService};

use crate::{middleware::identify::PresentedCredential, transport::Peer};

/// How long a call of a page may take.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The middleware stack and the services behind it.
#[derive(Clone)]
pub struct InProcessRpc(BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>);

impl InProcessRpc {
    /// Calls `stack`.
    pub fn new<S, Out>(stack: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Out>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        Out: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        Out::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stack = tower::util::MapResponse::new(stack, |response: Response<Out>| response.map(Body::new));
        Self(BoxCloneSyncService::new(stack))
    }
}

impl fmt::Debug for InProcessRpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcessRpc").finish_non_exhaustive()
    }
}

/// The RPCs, called by one person.
#[derive(Clone, Debug)]
pub(super) struct PersonalRpc {
    pub(super) rpc: InProcessRpc,
    /// `None` if the service has no callers file.
    pub(super) credential: Option<PresentedCredential>,
    /// The connection of the browser.
    pub(super) peer: Option<Peer>,
}

impl PersonalRpc {
    pub(super) fn admin(&self) -> AdminServiceClient<Self> {
        AdminServiceClient::new(self.clone())
    }

    pub(super) fn info(&self) -> InfoServiceClient<Self> {
        InfoServiceClient::new(self.clone())
    }

    pub(super) fn limits(&self) -> LimitServiceClient<Self> {
        LimitServiceClient::new(self.clone())
    }

    pub(super) fn sessions(&self) -> SessionServiceClient<Self> {
        SessionServiceClient::new(self.clone())
    }

    pub(super) fn usage(&self) -> UsageServiceClient<Self> {
        UsageServiceClient::new(self.clone())
    }
}

/// A request with the time limit of a page.
pub(super) fn call<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

impl Service<Request<Body>> for PersonalRpc {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = futures::future::BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.rpc.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(credential) = self.credential {
            request.extensions_mut().insert(credential);
        }
        if let Some(peer) = &self.peer {
            request.extensions_mut().insert(peer.clone());
        }
        Box::pin(self.rpc.0.call(request))
    }
}
