//! Services that the contract has and this version does not serve: they say so, instead of being unknown.

use tenant_auth_proto::v1::{self, usage_service_server::UsageService};
use tonic::{Request, Response, Status};

use super::error::ApiError;

type Reply<T> = Result<Response<T>, Status>;

fn unserved<T>(rpc: &'static str) -> Reply<T> {
    Err(ApiError::Unserved(rpc).into())
}

/// `UsageService`.
#[derive(Debug)]
pub struct UsageRpc;

#[tonic::async_trait]
impl UsageService for UsageRpc {
    async fn record_usage(&self, _: Request<v1::RecordUsageRequest>) -> Reply<v1::RecordUsageResponse> {
        unserved("RecordUsage")
    }

    async fn query_usage(&self, _: Request<v1::QueryUsageRequest>) -> Reply<v1::QueryUsageResponse> {
        unserved("QueryUsage")
    }
}
