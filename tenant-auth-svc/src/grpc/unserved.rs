//! Services that the contract has and this version does not serve: they say so, instead of being unknown.

use std::pin::Pin;

use futures::Stream;
use tenant_auth_proto::v1::{
    self, session_service_server::SessionService, watch_service_server::WatchService,
};
use tonic::{Request, Response, Status};

use super::error::ApiError;

type Reply<T> = Result<Response<T>, Status>;

fn unserved<T>(rpc: &'static str) -> Reply<T> {
    Err(ApiError::Unserved(rpc).into())
}

/// `SessionService`.
#[derive(Debug)]
pub struct SessionRpc;

#[tonic::async_trait]
impl SessionService for SessionRpc {
    async fn bind_session(&self, _: Request<v1::BindSessionRequest>) -> Reply<v1::BindSessionResponse> {
        unserved("BindSession")
    }

    async fn unbind_session(&self, _: Request<v1::UnbindSessionRequest>) -> Reply<v1::UnbindSessionResponse> {
        unserved("UnbindSession")
    }

    async fn list_sessions(&self, _: Request<v1::ListSessionsRequest>) -> Reply<v1::ListSessionsResponse> {
        unserved("ListSessions")
    }
}

/// `WatchService`.
#[derive(Debug)]
pub struct WatchRpc;

#[tonic::async_trait]
impl WatchService for WatchRpc {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Reply<Self::WatchStream> {
        unserved("Watch")
    }
}
