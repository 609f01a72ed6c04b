//! `UsageService`.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1::{self, usage_service_server::UsageService};
use tonic::{Request, Response, Status};

use crate::{
    domain::usage::{UsageError, UsageRecorder, UsageStore, UsageWriter},
    grpc::{
        context::{RequestContext as _, RpcRecord},
        convert::{parse_query_usage, parse_record_usage, query_usage_response, record_usage_response},
        error::ApiError,
    },
};

/// The time limit of a call whose caller sets no deadline.
const USAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// `UsageService` over a [`UsageRecorder`].
#[derive(Debug)]
pub struct UsageRpc<R, S>(Arc<UsageRecorder<R, S>>);

impl<R: UsageWriter, S: UsageStore> UsageRpc<R, S> {
    /// Creates the service.
    pub fn new(recorder: Arc<UsageRecorder<R, S>>) -> Self {
        Self(recorder)
    }
}

#[tonic::async_trait]
impl<R: UsageWriter, S: UsageStore> UsageService for UsageRpc<R, S> {
    async fn record_usage(
        &self,
        request: Request<v1::RecordUsageRequest>,
    ) -> Result<Response<v1::RecordUsageResponse>, Status> {
        let deadline = request.deadline(USAGE_TIMEOUT)?;
        let usage_request = parse_record_usage(request.caller_name(), request.get_ref())?;
        let recorded = self.0.record(usage_request, deadline).await;
        Ok(Response::new(record_usage_response(note_failure(&request.rpc_record(), recorded)?)))
    }

    async fn query_usage(
        &self,
        request: Request<v1::QueryUsageRequest>,
    ) -> Result<Response<v1::QueryUsageResponse>, Status> {
        let deadline = request.deadline(USAGE_TIMEOUT)?;
        let query = parse_query_usage(request.get_ref())?;
        let page = self.0.query(query, deadline).await;
        Ok(Response::new(query_usage_response(note_failure(&request.rpc_record(), page)?)))
    }
}

/// Records a database failure for the access log.
fn note_failure<T>(record: &RpcRecord, outcome: Result<T, UsageError>) -> Result<T, ApiError> {
    if let Err(UsageError::Store(error)) = &outcome {
        record.set_failure(error.kind);
    }
    Ok(outcome?)
}
