//! Names the request and the caller.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderName, HeaderValue, Request, Response};
use tonic::transport::server::TcpConnectInfo;
use tower::{Layer, Service};
use uuid::Uuid;

use crate::grpc::context::{Caller, RequestId, RpcRecord};

/// Carries the request id in both directions.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id taken over from a caller.
const MAX_REQUEST_ID: usize = 64;

/// Gives each request an id (the caller's own, if it sends a sensible one), says who calls, and sends the id back.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdentifyLayer;

impl<S> Layer<S> for IdentifyLayer {
    type Service = Identify<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Identify { inner }
    }
}

/// The service of [`IdentifyLayer`].
#[derive(Clone, Debug)]
pub struct Identify<S> {
    inner: S,
}

impl<S, In, Out> Service<Request<In>> for Identify<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = futures::future::BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<In>) -> Self::Future {
        let id = request_id(&request);
        let caller = caller(&request);
        let extensions = request.extensions_mut();
        extensions.insert(RequestId(Arc::clone(&id)));
        extensions.insert(Caller(caller));
        extensions.insert(RpcRecord::default());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            if let Ok(id) = HeaderValue::from_str(&id) {
                response.headers_mut().insert(REQUEST_ID, id);
            }
            Ok(response)
        })
    }
}

/// The caller's id if it is short and printable without spaces, so that it cannot garble a log; else a new one.
fn request_id<B>(request: &Request<B>) -> Arc<str> {
    let sensible =
        |id: &&str| (1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    let given = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(sensible);
    given.map_or_else(|| Uuid::now_v7().simple().to_string().into(), Into::into)
}

fn caller<B>(request: &Request<B>) -> Arc<str> {
    let peer = request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
    peer.map_or_else(|| "unauthenticated".into(), |peer| format!("unauthenticated@{}", peer.ip()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sensible_id_is_kept_and_any_other_replaced() {
        let id = |value: &str| {
            let request = Request::builder().header(REQUEST_ID, value).body(()).unwrap();
            request_id(&request).to_string()
        };
        assert_eq!(id("order-17/a"), "order-17/a");
        for bad in ["", "two words", &"x".repeat(65)] {
            assert_eq!(id(bad).len(), 32, "{bad:?}");
        }
        assert_eq!(request_id(&Request::new(())).len(), 32);
    }
}
