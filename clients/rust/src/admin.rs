//! Administration: tenants, keys, and the record of who changed what.

use std::sync::Arc;

use tenant_auth_proto::v1::{self, admin_service_client::AdminServiceClient};

use crate::{
    Error, PresentedKey,
    call::{RpcClient, invalid_reply, required_field},
    near::{CacheHandle, ChangeSubject, InvalidationGuard},
};

/// Manages tenants and keys; see [`Client::admin`](crate::Client::admin). Clones share the connection.
///
/// Each call may be repeated after a failure, except that a new key's plaintext is shown once: a repeated
/// [`issue_key`](Self::issue_key) makes another key.
#[derive(Clone, Debug)]
pub struct AdminClient {
    rpc: RpcClient,
    cache: Option<CacheHandle>,
}

/// A key that was just issued.
#[derive(Debug)]
#[non_exhaustive]
pub struct IssuedKey {
    /// Its public side.
    pub key: v1::ApiKey,
    /// The key itself, which is stored nowhere.
    pub plaintext: PresentedKey,
}

/// A key that was just replaced.
#[derive(Debug)]
#[non_exhaustive]
pub struct RotatedKey {
    /// The successor's public side.
    pub key: v1::ApiKey,
    /// The successor itself, which is stored nowhere.
    pub plaintext: PresentedKey,
    /// The old key, with its new end.
    pub replaced: v1::ApiKey,
}

impl AdminClient {
    pub(crate) fn new(caller: RpcClient, memory: Option<CacheHandle>) -> Self {
        Self { rpc: caller, cache: memory }
    }

    /// Creates a tenant. Repeating it with an id of your own is answered with the existing tenant.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] when the id has another name or plan.
    pub async fn create_tenant(&self, request: v1::CreateTenantRequest) -> Result<v1::Tenant, Error> {
        let send = async |transport, request| AdminServiceClient::new(transport).create_tenant(request).await;
        required_field(self.rpc.call_once(request, send).await?.tenant, "tenant")
    }

    /// Says which database the replica that answers knows, and whether it believes what it reads.
    ///
    /// # Errors
    /// Those of any call.
    pub async fn database_state(&self) -> Result<v1::GetDatabaseStateResponse, Error> {
        let request = v1::GetDatabaseStateRequest {};
        let send =
            async |transport, request| AdminServiceClient::new(transport).get_database_state(request).await;
        self.rpc.call_once(request, send).await
    }

    /// Accepts the database as it is, for every replica.
    ///
    /// # Errors
    /// [`Error::FailedPrecondition`] while the replica that answers knows no database.
    pub async fn accept_database(&self, reason: &str) -> Result<v1::AcceptDatabaseResponse, Error> {
        let request = v1::AcceptDatabaseRequest { reason: reason.to_owned() };
        let send =
            async |transport, request| AdminServiceClient::new(transport).accept_database(request).await;
        // It may say something else about everybody.
        let _forgetting = self.cache.as_ref().map(|memory| Arc::clone(memory.cache()).clear_on_drop());
        self.rpc.call_once(request, send).await
    }

    /// Reads one tenant.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none.
    pub async fn get_tenant(&self, tenant_id: &str) -> Result<v1::Tenant, Error> {
        let request = v1::GetTenantRequest { tenant_id: tenant_id.to_owned() };
        let send = async |transport, request| AdminServiceClient::new(transport).get_tenant(request).await;
        required_field(self.rpc.call_once(request, send).await?.tenant, "tenant")
    }

    /// Lists a page of tenants by id.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a token of another list.
    pub async fn list_tenants(
        &self,
        request: v1::ListTenantsRequest,
    ) -> Result<v1::ListTenantsResponse, Error> {
        let send = async |transport, request| AdminServiceClient::new(transport).list_tenants(request).await;
        self.rpc.call_once(request, send).await
    }

    /// Suspends a tenant: its keys are denied until it is resumed. Idempotent.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none.
    pub async fn suspend_tenant(&self, tenant_id: &str, reason: &str) -> Result<v1::Tenant, Error> {
        let request = v1::SuspendTenantRequest { tenant_id: tenant_id.to_owned(), reason: reason.to_owned() };
        let send =
            async |transport, request| AdminServiceClient::new(transport).suspend_tenant(request).await;
        let _changing = self.invalidate_on_drop(ChangeSubject::Tenant(tenant_id.to_owned()));
        required_field(self.rpc.call_once(request, send).await?.tenant, "tenant")
    }

    /// Lifts a suspension. Idempotent.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such tenant.
    pub async fn resume_tenant(&self, tenant_id: &str) -> Result<v1::Tenant, Error> {
        let request = v1::ResumeTenantRequest { tenant_id: tenant_id.to_owned() };
        let send = async |transport, request| AdminServiceClient::new(transport).resume_tenant(request).await;
        let _changing = self.invalidate_on_drop(ChangeSubject::Tenant(tenant_id.to_owned()));
        required_field(self.rpc.call_once(request, send).await?.tenant, "tenant")
    }

    /// Issues a key. Only this reply ever holds its plaintext.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such tenant.
    pub async fn issue_key(&self, request: v1::IssueKeyRequest) -> Result<IssuedKey, Error> {
        let send = async |transport, request| AdminServiceClient::new(transport).issue_key(request).await;
        let reply = self.rpc.call_once(request, send).await?;
        let plaintext = PresentedKey::new(reply.plaintext);
        // The key is made and nobody will see it again: what a reply may lack besides is no reason to withhold it.
        Ok(IssuedKey { key: reply.key.unwrap_or_default(), plaintext })
    }

    /// Takes over 1 to 500 keys by their SHA-256. Outcomes keep their order; what is there already is skipped.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there are none or too many. A key that breaks the contract fails alone, with the same error.
    pub async fn import_keys(
        &self,
        keys: Vec<v1::ImportKey>,
    ) -> Result<Vec<Result<ImportedKey, Error>>, Error> {
        use v1::import_key_result::Result as Outcome;

        let count = keys.len();
        let send = async |transport, request| AdminServiceClient::new(transport).import_keys(request).await;
        let request = v1::ImportKeysRequest { keys };
        // Some of them may have been found unknown a moment ago.
        let _changing = self.invalidate_on_drop(ChangeSubject::Negative);
        let results = self.rpc.call_once(request, send).await?.results;
        if results.len() != count {
            return Err(invalid_reply(format!("{count} keys were sent and {} answered", results.len())));
        }
        let outcome = |result: v1::ImportKeyResult| match required_field(result.result, "outcome")? {
            Outcome::ImportedKeyId(key_id) => Ok(ImportedKey::New { key_id }),
            Outcome::ExistingKeyId(key_id) => Ok(ImportedKey::Existing { key_id }),
            Outcome::Error(item) => Err(Error::from_item(&item)),
        };
        Ok(results.into_iter().map(outcome).collect())
    }

    /// Issues a successor and lets the old key end after an overlap.
    ///
    /// # Errors
    /// [`Error::FailedPrecondition`] when the old key is revoked, expired, or was rotated before.
    pub async fn rotate_key(&self, request: v1::RotateKeyRequest) -> Result<RotatedKey, Error> {
        let send = async |transport, request| AdminServiceClient::new(transport).rotate_key(request).await;
        let _changing = self.invalidate_on_drop(ChangeSubject::Key(request.key_id.clone()));
        let reply = self.rpc.call_once(request, send).await?;
        let plaintext = PresentedKey::new(reply.plaintext);
        Ok(RotatedKey {
            // As for a new key.
            key: reply.key.unwrap_or_default(),
            plaintext,
            replaced: reply.replaced.unwrap_or_default(),
        })
    }

    /// Withdraws a key for good. Idempotent: the first reason and time stay.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none.
    pub async fn revoke_key(&self, key_id: &str, reason: &str) -> Result<v1::ApiKey, Error> {
        let request = v1::RevokeKeyRequest { key_id: key_id.to_owned(), reason: reason.to_owned() };
        let send = async |transport, request| AdminServiceClient::new(transport).revoke_key(request).await;
        let _changing = self.invalidate_on_drop(ChangeSubject::Key(key_id.to_owned()));
        required_field(self.rpc.call_once(request, send).await?.key, "key")
    }

    /// Reads one key and its tenant from the database, and says what a validation of it would be answered now.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none.
    pub async fn get_key(&self, key_id: &str) -> Result<v1::GetKeyResponse, Error> {
        let request = v1::GetKeyRequest { key_id: key_id.to_owned() };
        let send = async |transport, request| AdminServiceClient::new(transport).get_key(request).await;
        self.rpc.call_once(request, send).await
    }

    /// Says what the replica that answers, and no other, holds in memory of one key. It asks no database and loads nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no key id.
    pub async fn inspect_key(&self, key_id: &str) -> Result<v1::InspectKeyResponse, Error> {
        let request = v1::InspectKeyRequest { key_id: key_id.to_owned() };
        let send = async |transport, request| AdminServiceClient::new(transport).inspect_key(request).await;
        self.rpc.call_once(request, send).await
    }

    /// Lists a page of keys: a tenant's by id, which is by age, or those of a prefix.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a token of another list.
    pub async fn list_keys(&self, request: v1::ListKeysRequest) -> Result<v1::ListKeysResponse, Error> {
        let send = async |transport, request| AdminServiceClient::new(transport).list_keys(request).await;
        self.rpc.call_once(request, send).await
    }

    /// Lists a page of the audit log, the latest moment first.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a token of another list.
    pub async fn list_audit_events(
        &self,
        request: v1::ListAuditEventsRequest,
    ) -> Result<v1::ListAuditEventsResponse, Error> {
        let send =
            async |transport, request| AdminServiceClient::new(transport).list_audit_events(request).await;
        self.rpc.call_once(request, send).await
    }

    /// Tells how long the replica that answers, and no other, goes by memory while the database is away.
    ///
    /// # Errors
    /// When no replica answers.
    pub async fn outage_grace(&self) -> Result<v1::OutageGrace, Error> {
        let send =
            async |transport, request| AdminServiceClient::new(transport).get_outage_grace(request).await;
        required_field(self.rpc.call_once(v1::GetOutageGraceRequest {}, send).await?.grace, "grace")
    }

    /// Sets another grace on the replica that answers, and no other, for a limited time.
    ///
    /// # Errors
    /// [`Error::Invalid`] beyond the limits.
    pub async fn set_outage_grace(
        &self,
        request: v1::SetOutageGraceRequest,
    ) -> Result<v1::SetOutageGraceResponse, Error> {
        let send =
            async |transport, request| AdminServiceClient::new(transport).set_outage_grace(request).await;
        self.rpc.call_once(request, send).await
    }

    /// Takes back what [`set_outage_grace`](Self::set_outage_grace) has set on the replica that answers.
    ///
    /// # Errors
    /// [`Error::Invalid`] without a reason.
    pub async fn reset_outage_grace(&self, reason: &str) -> Result<v1::ResetOutageGraceResponse, Error> {
        let request = v1::ResetOutageGraceRequest { reason: reason.to_owned() };
        let send =
            async |transport, request| AdminServiceClient::new(transport).reset_outage_grace(request).await;
        self.rpc.call_once(request, send).await
    }

    fn invalidate_on_drop(&self, about: ChangeSubject) -> Option<InvalidationGuard> {
        self.cache.as_ref().map(|memory| memory.cache().invalidate_on_drop(about))
    }
}

/// A key that is there after an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportedKey {
    /// It was taken over.
    New {
        /// Its public id.
        key_id: String,
    },
    /// The same tenant held it already; nothing was changed.
    Existing {
        /// Its public id.
        key_id: String,
    },
}
