//! `UsageService`.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1::{self, usage_service_server::UsageService};
use tonic::{Request, Response, Status};

use crate::{
    domain::usage::{Meter, Recorder, UsageError, UsageStore},
    grpc::{
        context::{Context as _, RpcRecord},
        convert::{query_usage_request, query_usage_response, record_usage_request, record_usage_response},
        error::ApiError,
    },
};

/// How long a call may take when the caller sets no deadline.
const LIMIT: Duration = Duration::from_secs(10);

/// `UsageService` over a [`Meter`].
#[derive(Debug)]
pub struct UsageRpc<R, S>(Arc<Meter<R, S>>);

impl<R: Recorder, S: UsageStore> UsageRpc<R, S> {
    /// Serves metering.
    pub fn new(meter: Arc<Meter<R, S>>) -> Self {
        Self(meter)
    }
}

#[tonic::async_trait]
impl<R: Recorder, S: UsageStore> UsageService for UsageRpc<R, S> {
    async fn record_usage(
        &self,
        request: Request<v1::RecordUsageRequest>,
    ) -> Result<Response<v1::RecordUsageResponse>, Status> {
        let deadline = request.deadline(LIMIT)?;
        let order = record_usage_request(request.caller_name(), request.get_ref())?;
        let recorded = self.0.record(order, deadline).await;
        Ok(Response::new(record_usage_response(noted(&request.record(), recorded)?)))
    }

    async fn query_usage(
        &self,
        request: Request<v1::QueryUsageRequest>,
    ) -> Result<Response<v1::QueryUsageResponse>, Status> {
        let deadline = request.deadline(LIMIT)?;
        let query = query_usage_request(request.get_ref())?;
        let page = self.0.query(query, deadline).await;
        Ok(Response::new(query_usage_response(noted(&request.record(), page)?)))
    }
}

/// Notes a database failure for the log line of its RPC.
fn noted<T>(record: &RpcRecord, outcome: Result<T, UsageError>) -> Result<T, ApiError> {
    if let Err(UsageError::Store(error)) = &outcome {
        record.failed(error.kind);
    }
    Ok(outcome?)
}
