//! The RPCs of operators about limits.

use tenant_auth_proto::v1;
use tonic::Request;

use super::admin::{ADMIN_TIMEOUT, AdminRpc};
use crate::{
    domain::{
        limit::{admin::LimitAdminError, store::LimitStore},
        store::Committed,
    },
    grpc::{
        context::{RequestContext as _, RpcRecord},
        convert::{
            add_credits_response, limit_message, list_limits_response, parse_add_credits,
            parse_limit_reference, parse_list_limits, parse_set_limit,
        },
        error::ApiError,
    },
};

impl<S: LimitStore, M, R, W> AdminRpc<S, M, R, W> {
    pub(super) async fn store_limit(
        &self,
        request: Request<v1::SetLimitRequest>,
    ) -> Result<v1::SetLimitResponse, ApiError> {
        let (limit, expected_version) = parse_set_limit(request.get_ref())?;
        let (actor, deadline) = (request.actor(), request.deadline(ADMIN_TIMEOUT)?);
        let limit = self.limits.set(limit, expected_version, actor, deadline).await;
        let Committed { outcome, revision } = note_failure(&request.rpc_record(), limit)?;
        Ok(v1::SetLimitResponse { limit: Some(limit_message(outcome)), revision: revision.0 })
    }

    pub(super) async fn read_limit(
        &self,
        request: Request<v1::GetLimitRequest>,
    ) -> Result<v1::GetLimitResponse, ApiError> {
        let message = request.get_ref();
        let (subject, name) = parse_limit_reference(message.subject.as_ref(), &message.name)?;
        let limit = self.limits.get(subject, name, request.deadline(ADMIN_TIMEOUT)?).await;
        let limit = note_failure(&request.rpc_record(), limit)?;
        Ok(v1::GetLimitResponse { limit: Some(limit_message(limit)) })
    }

    pub(super) async fn read_limits(
        &self,
        request: Request<v1::ListLimitsRequest>,
    ) -> Result<v1::ListLimitsResponse, ApiError> {
        let (subject, page) = parse_list_limits(request.get_ref())?;
        let limits = self.limits.list(subject, page, request.deadline(ADMIN_TIMEOUT)?).await;
        Ok(list_limits_response(note_failure(&request.rpc_record(), limits)?))
    }

    pub(super) async fn remove_limit(
        &self,
        request: Request<v1::DeleteLimitRequest>,
    ) -> Result<v1::DeleteLimitResponse, ApiError> {
        let message = request.get_ref();
        let (subject, name) = parse_limit_reference(message.subject.as_ref(), &message.name)?;
        let (actor, deadline) = (request.actor(), request.deadline(ADMIN_TIMEOUT)?);
        let deleted = self.limits.delete(subject, name, actor, deadline).await;
        let Committed { outcome: existed, revision } = note_failure(&request.rpc_record(), deleted)?;
        Ok(v1::DeleteLimitResponse { existed, revision: revision.0 })
    }

    pub(super) async fn adjust_credits(
        &self,
        request: Request<v1::AddCreditsRequest>,
    ) -> Result<v1::AddCreditsResponse, ApiError> {
        let adjustment = parse_add_credits(request.get_ref(), request.caller_name().as_deref())?;
        let (actor, deadline) = (request.actor(), request.deadline(ADMIN_TIMEOUT)?);
        let adjusted = self.limits.add_credits(adjustment, actor, deadline).await;
        Ok(add_credits_response(note_failure(&request.rpc_record(), adjusted)?))
    }
}

/// Records a database failure for the access log.
fn note_failure<T>(record: &RpcRecord, outcome: Result<T, LimitAdminError>) -> Result<T, ApiError> {
    if let Err(LimitAdminError::Store(error)) = &outcome {
        record.set_failure(error.kind);
    }
    Ok(outcome?)
}
