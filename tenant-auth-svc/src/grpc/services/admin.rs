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
        limit::{admin::LimitAdmin, store::LimitStore},
        outage::OutageGrace,
        recovery::{DatabaseWatch, Recovery},
        store::{Committed, NamedRecords, Store},
        tenant::TenantStatus,
    },
    grpc::{
        context::{RequestContext as _, RpcRecord},
        convert::{
            api_key_message, audit_response, database_state_message, delete_tenant_response,
            get_key_response, grace_message, import_response, inspection_message, leak_response,
            parse_create_tenant, parse_delete_tenant, parse_explain_key, parse_import_keys, parse_issue_key,
            parse_key_id, parse_list_audit_events, parse_report_leak, parse_resume_tenant, parse_tenant_id,
            parse_update_key, parse_update_tenant, parse_with_reason, tenant_message,
        },
        error::ApiError,
    },
};

/// The time limit of a call whose caller sets no deadline.
pub(super) const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);

/// `AdminService` over an [`Admin`].
#[derive(Debug)]
pub struct AdminRpc<S, M, R, W> {
    pub(super) admin: Arc<Admin<S, M>>,
    pub(super) grace: Arc<OutageGrace<S>>,
    pub(super) recovery: Recovery<R, W>,
    pub(super) inspector: KeyInspector,
    leaks: Arc<Leaks<S, M>>,
    pub(super) limits: Arc<LimitAdmin<S>>,
}

impl<S: Store, M: KeyCache, R: Store, W: DatabaseWatch> AdminRpc<S, M, R, W> {
    /// Creates the service.
    pub fn new(
        admin: Arc<Admin<S, M>>,
        grace: Arc<OutageGrace<S>>,
        recovery: Recovery<R, W>,
        inspector: KeyInspector,
        leaks: Arc<Leaks<S, M>>,
        limits: Arc<LimitAdmin<S>>,
    ) -> Self {
        Self { admin, grace, recovery, inspector, leaks, limits }
    }
}

#[tonic::async_trait]
impl<S, M: KeyCache, R: Store, W: DatabaseWatch> AdminService for AdminRpc<S, M, R, W>
where
    S: Store + NamedRecords + AuditStore + LeakStore + LimitStore,
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
        Ok(Response::new(self.accept(request).await?))
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
        Ok(Response::new(self.page_of_tenants(request).await?))
    }

    async fn suspend_tenant(
        &self,
        request: Request<v1::SuspendTenantRequest>,
    ) -> Result<Response<v1::SuspendTenantResponse>, Status> {
        let request_message = request.get_ref();
        let (id, reason) =
            parse_with_reason(parse_tenant_id(&request_message.tenant_id), &request_message.reason)?;
        let (actor, deadline) = (request.actor(), request.deadline(ADMIN_TIMEOUT)?);
        let tenant =
            self.admin.set_tenant_status(id, TenantStatus::Suspended, Some(reason), actor, deadline).await;
        let Committed { outcome, revision } = note_failure(&request.rpc_record(), tenant)?;
        let tenant = Some(tenant_message(outcome));
        Ok(Response::new(v1::SuspendTenantResponse { tenant, revision: revision.0 }))
    }

    async fn resume_tenant(
        &self,
        request: Request<v1::ResumeTenantRequest>,
    ) -> Result<Response<v1::ResumeTenantResponse>, Status> {
        let (id, reason) = parse_resume_tenant(request.get_ref())?;
        let (actor, deadline) = (request.actor(), request.deadline(ADMIN_TIMEOUT)?);
        let tenant = self.admin.set_tenant_status(id, TenantStatus::Active, reason, actor, deadline).await;
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
        Ok(Response::new(self.rotate(request).await?))
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
        Ok(Response::new(self.page_of_keys(request).await?))
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
        Ok(Response::new(inspection_message(self.inspector.inspect(&id))))
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

    async fn set_limit(
        &self,
        request: Request<v1::SetLimitRequest>,
    ) -> Result<Response<v1::SetLimitResponse>, Status> {
        Ok(Response::new(self.store_limit(request).await?))
    }

    async fn get_limit(
        &self,
        request: Request<v1::GetLimitRequest>,
    ) -> Result<Response<v1::GetLimitResponse>, Status> {
        Ok(Response::new(self.read_limit(request).await?))
    }

    async fn list_limits(
        &self,
        request: Request<v1::ListLimitsRequest>,
    ) -> Result<Response<v1::ListLimitsResponse>, Status> {
        Ok(Response::new(self.read_limits(request).await?))
    }

    async fn delete_limit(
        &self,
        request: Request<v1::DeleteLimitRequest>,
    ) -> Result<Response<v1::DeleteLimitResponse>, Status> {
        Ok(Response::new(self.remove_limit(request).await?))
    }

    async fn add_credits(
        &self,
        request: Request<v1::AddCreditsRequest>,
    ) -> Result<Response<v1::AddCreditsResponse>, Status> {
        Ok(Response::new(self.adjust_credits(request).await?))
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
        Ok(Response::new(self.set_grace(request).await?))
    }

    async fn reset_outage_grace(
        &self,
        request: Request<v1::ResetOutageGraceRequest>,
    ) -> Result<Response<v1::ResetOutageGraceResponse>, Status> {
        Ok(Response::new(self.reset_grace(request).await?))
    }
}

/// Records a database failure for the access log.
pub(super) fn note_failure<T>(record: &RpcRecord, outcome: Result<T, AdminError>) -> Result<T, ApiError> {
    if let Err(AdminError::Store(error)) = &outcome {
        record.set_failure(error.kind);
    }
    Ok(outcome?)
}
