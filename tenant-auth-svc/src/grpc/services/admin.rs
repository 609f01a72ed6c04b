//! `AdminService`.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1::{self, admin_service_server::AdminService};
use tonic::{Request, Response, Status};

use crate::{
    domain::{
        admin::{Admin, AdminError, IssuedKey, KeyCache},
        audit::AuditStore,
        inspect::KeyInspector,
        leak::{LeakStore, Leaks},
        outage::{GraceChange, OutageGrace},
        recovery::{DatabaseWatch, Recovery, RecoveryError},
        store::{Committed, Store},
    },
    grpc::{
        context::{RequestContext as _, RpcRecord},
        convert::{
            KeyListing, api_key_message, audit_response, database_identity_message, database_state_message,
            delete_tenant_response, get_key_response, grace_message, import_response, inspection_message,
            leak_response, list_keys_response, list_tenants_response, parse_create_tenant,
            parse_delete_tenant, parse_explain_key, parse_import_keys, parse_issue_key, parse_key_id,
            parse_list_audit_events, parse_list_keys, parse_list_tenants, parse_reason, parse_report_leak,
            parse_reset_grace, parse_rotate_key, parse_set_grace, parse_tenant_id, parse_update_key,
            parse_update_tenant, parse_with_reason, retained_revocation_message, tenant_message,
        },
        error::ApiError,
        services::inspection::InspectionRunner,
    },
};

/// The time limit of a call whose caller sets no deadline.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);

/// `AdminService` over an [`Admin`].
#[derive(Debug)]
pub struct AdminRpc<S, M, R, W> {
    pub(super) admin: Arc<Admin<S, M>>,
    grace: Arc<OutageGrace<S>>,
    recovery: Recovery<R, W>,
    pub(super) inspection: InspectionRunner,
    leaks: Arc<Leaks<S, M>>,
}

impl<S: Store, M: KeyCache, R: Store, W: DatabaseWatch> AdminRpc<S, M, R, W> {
    /// Creates the service.
    pub fn new(
        admin: Arc<Admin<S, M>>,
        grace: Arc<OutageGrace<S>>,
        recovery: Recovery<R, W>,
        inspector: KeyInspector,
        leaks: Arc<Leaks<S, M>>,
    ) -> Self {
        Self { admin, grace, recovery, inspection: InspectionRunner::new(inspector), leaks }
    }
}

#[tonic::async_trait]
impl<S: Store + AuditStore + LeakStore, M: KeyCache, R: Store, W: DatabaseWatch> AdminService
    for AdminRpc<S, M, R, W>
{
    async fn get_database_state(
        &self,
        _: Request<v1::GetDatabaseStateRequest>,
    ) -> Result<Response<v1::GetDatabaseStateResponse>, Status> {
        Ok(Response::new(database_state_message(self.recovery.state())))
    }

    async fn accept_database(
        &self,
        request: Request<v1::AcceptDatabaseRequest>,
    ) -> Result<Response<v1::AcceptDatabaseResponse>, Status> {
        let reason = parse_reason(&request.get_ref().reason)?;
        let (actor, deadline) = (request.actor(), request.deadline(ADMIN_TIMEOUT)?);
        let accepted = self.recovery.accept(&reason, actor, deadline).await;
        if let Err(RecoveryError::Store(error)) = &accepted {
            request.rpc_record().set_failure(error.kind);
        }
        let accepted = accepted.map_err(ApiError::from)?;
        Ok(Response::new(v1::AcceptDatabaseResponse {
            database: Some(database_identity_message(accepted.database)),
            retained_revocations: accepted.retained.into_iter().map(retained_revocation_message).collect(),
            accepted: accepted.by_this_call,
        }))
    }

    async fn create_tenant(
        &self,
        request: Request<v1::CreateTenantRequest>,
    ) -> Result<Response<v1::CreateTenantResponse>, Status> {
        let (id, name, plan) = parse_create_tenant(request.get_ref())?;
        let (actor, deadline) = (request.actor(), request.deadline(ADMIN_TIMEOUT)?);
        let tenant = self.admin.create_tenant(id, name, plan, actor, deadline).await;
        let Committed { outcome, revision } = note_failure(&request.rpc_record(), tenant)?;
        Ok(Response::new(v1::CreateTenantResponse {
            tenant: Some(tenant_message(outcome.tenant)),
            already_existed: !outcome.is_new,
            revision: revision.0,
        }))
    }

    async fn update_tenant(
        &self,
        request: Request<v1::UpdateTenantRequest>,
    ) -> Result<Response<v1::UpdateTenantResponse>, Status> {
        let (id, update, conditions) = parse_update_tenant(request.get_ref())?;
        let (actor, deadline) = (request.actor(), request.deadline(ADMIN_TIMEOUT)?);
        let tenant = self.admin.update_tenant(id, update, conditions, actor, deadline).await;
        let Committed { outcome, revision } = note_failure(&request.rpc_record(), tenant)?;
        let tenant = Some(tenant_message(outcome));
        Ok(Response::new(v1::UpdateTenantResponse { tenant, revision: revision.0 }))
    }

    async fn get_tenant(
        &self,
        request: Request<v1::GetTenantRequest>,
    ) -> Result<Response<v1::GetTenantResponse>, Status> {
        let id = parse_tenant_id(&request.get_ref().tenant_id)?;
        let tenant = self.admin.get_tenant(id, request.deadline(ADMIN_TIMEOUT)?).await;
        let tenant = note_failure(&request.rpc_record(), tenant)?;
        Ok(Response::new(v1::GetTenantResponse { tenant: Some(tenant_message(tenant)) }))
    }

    async fn list_tenants(
        &self,
        request: Request<v1::ListTenantsRequest>,
    ) -> Result<Response<v1::ListTenantsResponse>, Status> {
        let page = parse_list_tenants(request.get_ref())?;
        let tenants = self.admin.list_tenants(page, request.deadline(ADMIN_TIMEOUT)?).await;
        Ok(Response::new(list_tenants_response(note_failure(&request.rpc_record(), tenants)?)))
    }

    async fn suspend_tenant(
        &self,
        request: Request<v1::SuspendTenantRequest>,
    ) -> Result<Response<v1::SuspendTenantResponse>, Status> {
        let request_message = request.get_ref();
        let (id, reason) =
            parse_with_reason(parse_tenant_id(&request_message.tenant_id), &request_message.reason)?;
        let (actor, deadline) = (request.actor(), request.deadline(ADMIN_TIMEOUT)?);
        let tenant = self.admin.set_tenant_suspended(id, Some(reason), actor, deadline).await;
        let Committed { outcome, revision } = note_failure(&request.rpc_record(), tenant)?;
        let tenant = Some(tenant_message(outcome));
        Ok(Response::new(v1::SuspendTenantResponse { tenant, revision: revision.0 }))
    }

    async fn resume_tenant(
        &self,
        request: Request<v1::ResumeTenantRequest>,
    ) -> Result<Response<v1::ResumeTenantResponse>, Status> {
        let id = parse_tenant_id(&request.get_ref().tenant_id)?;
        let (actor, deadline) = (request.actor(), request.deadline(ADMIN_TIMEOUT)?);
        let tenant = self.admin.set_tenant_suspended(id, None, actor, deadline).await;
        let Committed { outcome, revision } = note_failure(&request.rpc_record(), tenant)?;
        let tenant = Some(tenant_message(outcome));
        Ok(Response::new(v1::ResumeTenantResponse { tenant, revision: revision.0 }))
    }

    async fn issue_key(
        &self,
        request: Request<v1::IssueKeyRequest>,
    ) -> Result<Response<v1::IssueKeyResponse>, Status> {
        let key_to_issue = parse_issue_key(request.get_ref())?;
        let (actor, deadline) = (request.actor(), request.deadline(ADMIN_TIMEOUT)?);
        let issued = self.admin.issue_key(key_to_issue, actor, deadline).await;
        let Committed { outcome: IssuedKey { key, plaintext }, revision } =
            note_failure(&request.rpc_record(), issued)?;
        Ok(Response::new(v1::IssueKeyResponse {
            key: Some(api_key_message(key)),
            plaintext: plaintext.expose().to_owned(),
            revision: revision.0,
        }))
    }

    async fn import_keys(
        &self,
        request: Request<v1::ImportKeysRequest>,
    ) -> Result<Response<v1::ImportKeysResponse>, Status> {
        let (keys, errors) = parse_import_keys(request.get_ref())?.into_parts();
        let (actor, deadline) = (request.actor(), request.deadline(ADMIN_TIMEOUT)?);
        let outcomes = self.admin.import_keys(keys, actor, deadline).await;
        Ok(Response::new(import_response(errors, note_failure(&request.rpc_record(), outcomes)?)))
    }

    async fn rotate_key(
        &self,
        request: Request<v1::RotateKeyRequest>,
    ) -> Result<Response<v1::RotateKeyResponse>, Status> {
        let (key_id, overlap, expires_at) = parse_rotate_key(request.get_ref())?;
        let (actor, deadline) = (request.actor(), request.deadline(ADMIN_TIMEOUT)?);
        let rotated = self.admin.rotate_key(key_id, overlap, expires_at, actor, deadline).await;
        let Committed { outcome: (IssuedKey { key, plaintext }, old), revision } =
            note_failure(&request.rpc_record(), rotated)?;
        Ok(Response::new(v1::RotateKeyResponse {
            key: Some(api_key_message(key)),
            plaintext: plaintext.expose().to_owned(),
            replaced: Some(api_key_message(old)),
            revision: revision.0,
        }))
    }

    async fn update_key(
        &self,
        request: Request<v1::UpdateKeyRequest>,
    ) -> Result<Response<v1::UpdateKeyResponse>, Status> {
        let (id, update, conditions) = parse_update_key(request.get_ref())?;
        let (actor, deadline) = (request.actor(), request.deadline(ADMIN_TIMEOUT)?);
        let key = self.admin.update_key(id, update, conditions, actor, deadline).await;
        let Committed { outcome, revision } = note_failure(&request.rpc_record(), key)?;
        let key = Some(api_key_message(outcome));
        Ok(Response::new(v1::UpdateKeyResponse { key, revision: revision.0 }))
    }

    async fn revoke_key(
        &self,
        request: Request<v1::RevokeKeyRequest>,
    ) -> Result<Response<v1::RevokeKeyResponse>, Status> {
        let request_message = request.get_ref();
        let (id, reason) = parse_with_reason(parse_key_id(&request_message.key_id), &request_message.reason)?;
        let (actor, deadline) = (request.actor(), request.deadline(ADMIN_TIMEOUT)?);
        let key = self.admin.revoke_key(id, reason, actor, deadline).await;
        let Committed { outcome, revision } = note_failure(&request.rpc_record(), key)?;
        let key = Some(api_key_message(outcome));
        Ok(Response::new(v1::RevokeKeyResponse { key, revision: revision.0 }))
    }

    async fn list_keys(
        &self,
        request: Request<v1::ListKeysRequest>,
    ) -> Result<Response<v1::ListKeysResponse>, Status> {
        let inactive = request.get_ref().include_inactive;
        let deadline = request.deadline(ADMIN_TIMEOUT)?;
        Ok(Response::new(match parse_list_keys(request.get_ref())? {
            KeyListing::OfTenant(tenant, page) => {
                let keys = self.admin.list_keys(tenant, page, inactive, deadline).await;
                list_keys_response(note_failure(&request.rpc_record(), keys)?)
            }
            KeyListing::ByPrefix(what, page) => {
                let keys = self.admin.find_keys(what, page, inactive, deadline).await;
                list_keys_response(note_failure(&request.rpc_record(), keys)?)
            }
        }))
    }

    async fn get_key(
        &self,
        request: Request<v1::GetKeyRequest>,
    ) -> Result<Response<v1::GetKeyResponse>, Status> {
        let id = parse_key_id(&request.get_ref().key_id)?;
        let key = self.admin.get_key(id, request.deadline(ADMIN_TIMEOUT)?).await;
        Ok(Response::new(get_key_response(note_failure(&request.rpc_record(), key)?)))
    }

    async fn inspect_key(
        &self,
        request: Request<v1::InspectKeyRequest>,
    ) -> Result<Response<v1::InspectKeyResponse>, Status> {
        let id = parse_key_id(&request.get_ref().key_id)?;
        let inspection = self.inspection.run(id, request.deadline(ADMIN_TIMEOUT)?).await?;
        Ok(Response::new(inspection_message(inspection)))
    }

    async fn delete_tenant(
        &self,
        request: Request<v1::DeleteTenantRequest>,
    ) -> Result<Response<v1::DeleteTenantResponse>, Status> {
        let deletion = parse_delete_tenant(request.get_ref())?;
        let (actor, deadline) = (request.actor(), request.deadline(ADMIN_TIMEOUT)?);
        let progress = self.admin.delete_tenant(deletion, actor, deadline).await;
        Ok(Response::new(delete_tenant_response(note_failure(&request.rpc_record(), progress)?)))
    }

    async fn explain_key(
        &self,
        request: Request<v1::ExplainKeyRequest>,
    ) -> Result<Response<v1::ExplainKeyResponse>, Status> {
        let deadline = request.deadline(ADMIN_TIMEOUT)?;
        let query = parse_explain_key(request.into_inner())?;
        Ok(Response::new(self.explain(&query, deadline).await?))
    }

    async fn report_leak(
        &self,
        request: Request<v1::ReportLeakRequest>,
    ) -> Result<Response<v1::ReportLeakResponse>, Status> {
        let (actor, deadline) = (request.actor(), request.deadline(ADMIN_TIMEOUT)?);
        let record = request.rpc_record();
        let report = parse_report_leak(request.into_inner(), |text| self.leaks.hash(text))?;
        // A text that cannot be a key is known to no one.
        let Some(report) = report else { return Ok(Response::new(v1::ReportLeakResponse::default())) };
        let outcome = self.leaks.report(&report, actor, deadline).await;
        Ok(Response::new(leak_response(note_failure(&record, outcome)?)))
    }

    async fn list_audit_events(
        &self,
        request: Request<v1::ListAuditEventsRequest>,
    ) -> Result<Response<v1::ListAuditEventsResponse>, Status> {
        let (filter, page) = parse_list_audit_events(request.get_ref())?;
        let events = self.admin.list_audit(filter, page, request.deadline(ADMIN_TIMEOUT)?).await;
        Ok(Response::new(audit_response(note_failure(&request.rpc_record(), events)?)))
    }

    async fn get_outage_grace(
        &self,
        _: Request<v1::GetOutageGraceRequest>,
    ) -> Result<Response<v1::GetOutageGraceResponse>, Status> {
        let grace = Some(grace_message(self.grace.state()));
        Ok(Response::new(v1::GetOutageGraceResponse { grace }))
    }

    async fn set_outage_grace(
        &self,
        request: Request<v1::SetOutageGraceRequest>,
    ) -> Result<Response<v1::SetOutageGraceResponse>, Status> {
        let (grace, expires_in, reason) = parse_set_grace(request.get_ref())?;
        let (actor, deadline) = (request.actor(), request.deadline(ADMIN_TIMEOUT)?);
        let GraceChange { state, is_audited } =
            self.grace.set(grace, expires_in, reason, actor, deadline).await;
        Ok(Response::new(v1::SetOutageGraceResponse {
            grace: Some(grace_message(state)),
            audited: is_audited,
        }))
    }

    async fn reset_outage_grace(
        &self,
        request: Request<v1::ResetOutageGraceRequest>,
    ) -> Result<Response<v1::ResetOutageGraceResponse>, Status> {
        let reason = parse_reset_grace(request.get_ref())?;
        let (actor, deadline) = (request.actor(), request.deadline(ADMIN_TIMEOUT)?);
        let GraceChange { state, is_audited } = self.grace.reset(&reason, actor, deadline).await;
        Ok(Response::new(v1::ResetOutageGraceResponse {
            grace: Some(grace_message(state)),
            audited: is_audited,
        }))
    }
}

/// Records a database failure for the access log.
fn note_failure<T>(record: &RpcRecord, outcome: Result<T, AdminError>) -> Result<T, ApiError> {
    if let Err(AdminError::Store(error)) = &outcome {
        record.set_failure(error.kind);
    }
    Ok(outcome?)
}
