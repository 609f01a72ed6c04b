//! Administration: tenants, keys and the audit log; limits are in `limits`, and the state of one replica is in `replica`.

mod limits;
mod replica;

use std::sync::Arc;

use tenant_auth_proto::v1::{self, admin_service_client::AdminServiceClient};

use crate::{
    Error, PresentedKey,
    call::{RpcClient, invalid_reply, required_field},
    near::{CacheHandle, ChangeSubject, InvalidationGuard},
};

/// Manages tenants and keys; see [`Client::admin`](crate::Client::admin). Clones share the connection.
///
/// Every call can be repeated after a failure. [`issue_key`](Self::issue_key) is an exception: the plaintext
/// is returned once, so a repeated call issues another key.
#[derive(Clone, Debug)]
pub struct AdminClient {
    rpc: RpcClient,
    cache: Option<CacheHandle>,
}

/// A key that was just issued.
#[derive(Debug)]
#[non_exhaustive]
pub struct IssuedKey {
    /// The public part of the key.
    pub key: v1::ApiKey,
    /// The plaintext key. The service does not store it.
    pub plaintext: PresentedKey,
}

/// A key that was just rotated.
#[derive(Debug)]
#[non_exhaustive]
pub struct RotatedKey {
    /// The public part of the successor.
    pub key: v1::ApiKey,
    /// The plaintext of the successor. The service does not store it.
    pub plaintext: PresentedKey,
    /// The old key with its new expiry.
    pub replaced: v1::ApiKey,
}

impl AdminClient {
    pub(crate) fn new(rpc: RpcClient, cache: Option<CacheHandle>) -> Self {
        Self { rpc, cache }
    }

    /// Creates a tenant, or finds the one that exists with the same id, name and plan.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] if the tenant exists with other values; the message names the fields.
    pub async fn create_tenant(
        &self,
        request: v1::CreateTenantRequest,
    ) -> Result<v1::CreateTenantResponse, Error> {
        let send = async |transport, request| AdminServiceClient::new(transport).create_tenant(request).await;
        let reply = self.rpc.call_once(request, send).await?;
        required_field(reply.tenant.as_ref(), "tenant")?;
        Ok(reply)
    }

    /// Changes the fields of a tenant that the request's mask names. Idempotent.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the tenant does not exist; [`Error::Conflict`] if the request has an etag and the tenant
    /// has changed since.
    pub async fn update_tenant(
        &self,
        request: v1::UpdateTenantRequest,
    ) -> Result<v1::UpdateTenantResponse, Error> {
        let send = async |transport, request| AdminServiceClient::new(transport).update_tenant(request).await;
        let _changing = self.invalidate_on_drop(ChangeSubject::Tenant(request.tenant_id.clone()));
        self.rpc.call_once(request, send).await
    }

    /// Returns one tenant.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the tenant does not exist.
    pub async fn get_tenant(&self, tenant_id: &str) -> Result<v1::Tenant, Error> {
        let request = v1::GetTenantRequest { tenant_id: tenant_id.to_owned() };
        let send = async |transport, request| AdminServiceClient::new(transport).get_tenant(request).await;
        required_field(self.rpc.call_once(request, send).await?.tenant, "tenant")
    }

    /// Returns one page of tenants, ordered by id.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a page token of another list.
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
    /// [`Error::NotFound`] if the tenant does not exist.
    pub async fn suspend_tenant(
        &self,
        tenant_id: &str,
        reason: &str,
    ) -> Result<v1::SuspendTenantResponse, Error> {
        let request = v1::SuspendTenantRequest { tenant_id: tenant_id.to_owned(), reason: reason.to_owned() };
        let send =
            async |transport, request| AdminServiceClient::new(transport).suspend_tenant(request).await;
        let _changing = self.invalidate_on_drop(ChangeSubject::Tenant(tenant_id.to_owned()));
        self.rpc.call_once(request, send).await
    }

    /// Resumes a suspended tenant. Idempotent.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the tenant does not exist.
    pub async fn resume_tenant(&self, tenant_id: &str) -> Result<v1::ResumeTenantResponse, Error> {
        let request = v1::ResumeTenantRequest { tenant_id: tenant_id.to_owned(), ..Default::default() };
        let send = async |transport, request| AdminServiceClient::new(transport).resume_tenant(request).await;
        let _changing = self.invalidate_on_drop(ChangeSubject::Tenant(tenant_id.to_owned()));
        self.rpc.call_once(request, send).await
    }

    /// Deletes a suspended tenant with its sessions and keys, and on request its usage. Works in steps: call it again while
    /// the response is not `complete`. Idempotent.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the tenant never existed; [`Error::FailedPrecondition`] if it is not suspended.
    pub async fn delete_tenant(
        &self,
        request: v1::DeleteTenantRequest,
    ) -> Result<v1::DeleteTenantResponse, Error> {
        let send = async |transport, request| AdminServiceClient::new(transport).delete_tenant(request).await;
        let _changing = self.invalidate_on_drop(ChangeSubject::Tenant(request.tenant_id.clone()));
        self.rpc.call_once(request, send).await
    }

    /// Issues a key. Only this response contains the plaintext.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the tenant does not exist.
    pub async fn issue_key(&self, request: v1::IssueKeyRequest) -> Result<IssuedKey, Error> {
        let send = async |transport, request| AdminServiceClient::new(transport).issue_key(request).await;
        let reply = self.rpc.call_once(request, send).await?;
        let plaintext = PresentedKey::new(reply.plaintext);
        // The key exists and its plaintext cannot be read again: return it even if the response lacks other
        // fields.
        Ok(IssuedKey { key: reply.key.unwrap_or_default(), plaintext })
    }

    /// Imports 1 to 500 keys by their SHA-256. The results keep the order of the request. Existing keys are
    /// skipped.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are no keys or too many. An invalid key fails alone, with the same error.
    pub async fn import_keys(
        &self,
        keys: Vec<v1::ImportKey>,
    ) -> Result<Vec<Result<ImportedKey, Error>>, Error> {
        use v1::import_key_result::Result as Outcome;

        let count = keys.len();
        let send = async |transport, request| AdminServiceClient::new(transport).import_keys(request).await;
        let request = v1::ImportKeysRequest { keys };
        // Some of these keys may be cached as unknown.
        let _changing = self.invalidate_on_drop(ChangeSubject::Negative);
        let results = self.rpc.call_once(request, send).await?.results;
        if results.len() != count {
            return Err(invalid_reply(format!(
                "the response has {} results for {count} keys",
                results.len()
            )));
        }
        let outcome = |result: v1::ImportKeyResult| match required_field(result.result, "outcome")? {
            Outcome::ImportedKeyId(key_id) => Ok(ImportedKey::New { key_id }),
            Outcome::ExistingKeyId(key_id) => Ok(ImportedKey::Existing { key_id }),
            Outcome::Different(v1::DifferentKey { key_id, fields }) => {
                Ok(ImportedKey::Different { key_id, fields })
            }
            Outcome::Error(item) => Err(Error::from_item(&item)),
        };
        Ok(results.into_iter().map(outcome).collect())
    }

    /// Changes the fields of a key that the request's mask names. Idempotent.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the key does not exist; [`Error::FailedPrecondition`] if it is revoked;
    /// [`Error::Conflict`] if the request has an etag and the key has changed since.
    pub async fn update_key(&self, request: v1::UpdateKeyRequest) -> Result<v1::UpdateKeyResponse, Error> {
        let send = async |transport, request| AdminServiceClient::new(transport).update_key(request).await;
        let _changing = self.invalidate_on_drop(ChangeSubject::Key(request.key_id.clone()));
        self.rpc.call_once(request, send).await
    }

    /// Disables a key until it is enabled again. Idempotent.
    ///
    /// # Errors
    /// As for [`update_key`](Self::update_key).
    pub async fn disable_key(&self, key_id: &str, reason: &str) -> Result<v1::UpdateKeyResponse, Error> {
        self.set_key_enabled(key_id, false, reason).await
    }

    /// Enables a disabled key. Idempotent.
    ///
    /// # Errors
    /// As for [`update_key`](Self::update_key).
    pub async fn enable_key(&self, key_id: &str, reason: &str) -> Result<v1::UpdateKeyResponse, Error> {
        self.set_key_enabled(key_id, true, reason).await
    }

    async fn set_key_enabled(
        &self,
        key_id: &str,
        enabled: bool,
        reason: &str,
    ) -> Result<v1::UpdateKeyResponse, Error> {
        self.update_key(v1::UpdateKeyRequest {
            key_id: key_id.to_owned(),
            update_mask: Some(prost_types::FieldMask { paths: vec!["enabled".to_owned()] }),
            enabled,
            reason: reason.to_owned(),
            ..v1::UpdateKeyRequest::default()
        })
        .await
    }

    /// Issues a successor with the same name, scopes and, unless the request says otherwise, expiry. The old key expires
    /// after an overlap.
    ///
    /// # Errors
    /// [`Error::FailedPrecondition`] if the old key is revoked, disabled, expired or already rotated.
    pub async fn rotate_key(&self, request: v1::RotateKeyRequest) -> Result<RotatedKey, Error> {
        let send = async |transport, request| AdminServiceClient::new(transport).rotate_key(request).await;
        let _changing = self.invalidate_on_drop(ChangeSubject::Key(request.key_id.clone()));
        let reply = self.rpc.call_once(request, send).await?;
        let plaintext = PresentedKey::new(reply.plaintext);
        Ok(RotatedKey {
            // As in `issue_key`.
            key: reply.key.unwrap_or_default(),
            plaintext,
            replaced: reply.replaced.unwrap_or_default(),
        })
    }

    /// Revokes a key permanently. Idempotent: the first reason and time are kept.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the key does not exist.
    pub async fn revoke_key(&self, key_id: &str, reason: &str) -> Result<v1::RevokeKeyResponse, Error> {
        let request = v1::RevokeKeyRequest { key_id: key_id.to_owned(), reason: reason.to_owned() };
        let send = async |transport, request| AdminServiceClient::new(transport).revoke_key(request).await;
        let _changing = self.invalidate_on_drop(ChangeSubject::Key(key_id.to_owned()));
        self.rpc.call_once(request, send).await
    }

    /// Reads one key and its tenant from the database and returns the verdict that a validation would have
    /// now.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the key does not exist.
    pub async fn get_key(&self, key_id: &str) -> Result<v1::GetKeyResponse, Error> {
        let request = v1::GetKeyRequest { key_id: key_id.to_owned() };
        let send = async |transport, request| AdminServiceClient::new(transport).get_key(request).await;
        self.rpc.call_once(request, send).await
    }

    /// Reports that a key was found in a public place. Idempotent for a key and a source.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an invalid field. An unknown key is not an error.
    pub async fn report_leak(&self, request: v1::ReportLeakRequest) -> Result<v1::ReportLeakResponse, Error> {
        let send = async |transport, request| AdminServiceClient::new(transport).report_leak(request).await;
        // The key is unknown until the response arrives, and may be disabled by then.
        let changing = self.cache.as_ref().map(|handle| Arc::clone(handle.cache()).clear_on_drop());
        let response = self.rpc.call_once(request, send).await;
        drop(changing);
        response
    }

    /// Returns one page of keys: the keys of a tenant ordered by id (which is by age), or the keys with a
    /// prefix.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a page token of another list.
    pub async fn list_keys(&self, request: v1::ListKeysRequest) -> Result<v1::ListKeysResponse, Error> {
        let send = async |transport, request| AdminServiceClient::new(transport).list_keys(request).await;
        self.rpc.call_once(request, send).await
    }

    /// Returns one page of the audit log, latest first.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a page token of another list.
    pub async fn list_audit_events(
        &self,
        request: v1::ListAuditEventsRequest,
    ) -> Result<v1::ListAuditEventsResponse, Error> {
        let send =
            async |transport, request| AdminServiceClient::new(transport).list_audit_events(request).await;
        self.rpc.call_once(request, send).await
    }

    fn invalidate_on_drop(&self, subject: ChangeSubject) -> Option<InvalidationGuard> {
        self.cache.as_ref().map(|handle| handle.cache().invalidate_on_drop(subject))
    }
}

/// The result of importing one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportedKey {
    /// The key was imported.
    New {
        /// The public id of the key.
        key_id: String,
    },
    /// The same tenant already has this key with the same values; nothing was changed.
    Existing {
        /// The public id of the key.
        key_id: String,
    },
    /// The same tenant already has this key with other values; nothing was changed.
    Different {
        /// The public id of the key.
        key_id: String,
        /// The fields that differ; see `DifferentKey` of the contract.
        fields: Vec<String>,
    },
}
