//! The RPCs of operators during an outage of the database, and after it was replaced.

use tenant_auth_proto::v1;
use tonic::Request;

use super::admin::{ADMIN_TIMEOUT, AdminRpc};
use crate::{
    domain::{
        audit::AuditStore,
        outage::GraceChange,
        recovery::{DatabaseWatch, RecoveryError},
        store::Store,
    },
    grpc::{
        context::RequestContext as _,
        convert::{
            database_identity_message, grace_message, parse_reason, parse_reset_grace, parse_set_grace,
            retained_revocation_message,
        },
        error::ApiError,
    },
};

impl<S: AuditStore, M, R: Store, W: DatabaseWatch> AdminRpc<S, M, R, W> {
    pub(super) async fn accept(
        &self,
        request: Request<v1::AcceptDatabaseRequest>,
    ) -> Result<v1::AcceptDatabaseResponse, ApiError> {
        let reason = parse_reason(&request.get_ref().reason)?;
        let (actor, deadline) = (request.actor(), request.deadline(ADMIN_TIMEOUT)?);
        let accepted = self.recovery.accept(&reason, actor, deadline).await;
        if let Err(RecoveryError::Store(error)) = &accepted {
            request.rpc_record().set_failure(error.kind);
        }
        let accepted = accepted?;
        Ok(v1::AcceptDatabaseResponse {
            database: Some(database_identity_message(accepted.database)),
            retained_revocations: accepted.retained.into_iter().map(retained_revocation_message).collect(),
            accepted: accepted.by_this_call,
        })
    }

    pub(super) async fn set_grace(
        &self,
        request: Request<v1::SetOutageGraceRequest>,
    ) -> Result<v1::SetOutageGraceResponse, ApiError> {
        let (grace, expires_in, reason) = parse_set_grace(request.get_ref())?;
        let (actor, deadline) = (request.actor(), request.deadline(ADMIN_TIMEOUT)?);
        let GraceChange { state, is_audited } =
            self.grace.set(grace, expires_in, reason, actor, deadline).await;
        Ok(v1::SetOutageGraceResponse { grace: Some(grace_message(state)), audited: is_audited })
    }

    pub(super) async fn reset_grace(
        &self,
        request: Request<v1::ResetOutageGraceRequest>,
    ) -> Result<v1::ResetOutageGraceResponse, ApiError> {
        let reason = parse_reset_grace(request.get_ref())?;
        let (actor, deadline) = (request.actor(), request.deadline(ADMIN_TIMEOUT)?);
        let GraceChange { state, is_audited } = self.grace.reset(&reason, actor, deadline).await;
        Ok(v1::ResetOutageGraceResponse { grace: Some(grace_message(state)), audited: is_audited })
    }
}
