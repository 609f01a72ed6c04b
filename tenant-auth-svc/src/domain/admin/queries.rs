//! The operators' queries.

use std::time::Instant;

use super::{Admin, AdminError, KeyCache, call};
use crate::domain::{
    audit::{AuditCursor, AuditEvent, AuditFilter},
    clock::UnixMillis,
    id::{KeyId, TenantId},
    key::{ApiKey, KeyPrefixCursor, StoredKey},
    page::{Page, PageRequest},
    store::{NameCursor, NamedRecords, Store},
    tenant::Tenant,
    text::{NamePrefix, PrefixHint},
    verdict::Verdict,
};

/// A stored key with its current verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// The key and its tenant.
    pub stored: StoredKey,
    /// The verdict of a validation that reads the database, whatever scopes and address the request has.
    pub verdict: Verdict,
    /// When the verdict was evaluated.
    pub decided_at: UnixMillis,
    /// Whether the deny list contains the key or its tenant.
    pub on_deny_list: bool,
}

impl<S: Store + NamedRecords, M: KeyCache> Admin<S, M> {
    /// Lists the tenants whose names begin with a text, by name and then by id.
    ///
    /// # Errors
    /// [`AdminError::Store`].
    pub async fn find_tenants_by_name(
        &self,
        prefix: NamePrefix,
        page: PageRequest<NameCursor<TenantId>>,
        deadline: Instant,
    ) -> Result<Page<Tenant, NameCursor<TenantId>>, AdminError> {
        Ok(self.store.find_tenants_by_name(call(deadline), &prefix, &page).await?)
    }

    /// Lists the keys whose names begin with a text, of one tenant or of all, by name and then by id.
    ///
    /// # Errors
    /// [`AdminError::NoSuchTenant`] when the list is empty because there is no such tenant; [`AdminError::Store`].
    pub async fn find_keys_by_name(
        &self,
        (prefix, tenant): (NamePrefix, Option<TenantId>),
        page: PageRequest<NameCursor<KeyId>>,
        include_inactive: bool,
        deadline: Instant,
    ) -> Result<Page<ApiKey, NameCursor<KeyId>>, AdminError> {
        let live_at = (!include_inactive).then(|| self.clock.now());
        let what = (&prefix, tenant.as_ref());
        let keys = self.store.find_keys_by_name(call(deadline), what, &page, live_at).await?;
        if let Some(tenant) = tenant.filter(|_| keys.items.is_empty() && page.after.is_none()) {
            self.get_tenant(tenant, deadline).await?;
        }
        Ok(keys)
    }
}

impl<S: Store, M: KeyCache> Admin<S, M> {
    /// Reads a tenant.
    ///
    /// # Errors
    /// [`AdminError::NoSuchTenant`]; [`AdminError::Store`].
    pub async fn get_tenant(&self, id: TenantId, deadline: Instant) -> Result<Tenant, AdminError> {
        let tenant = self.store.get_tenant(call(deadline), &id).await?;
        tenant.ok_or(AdminError::NoSuchTenant(id))
    }

    /// Lists tenants by id.
    ///
    /// # Errors
    /// [`AdminError::Store`].
    pub async fn list_tenants(
        &self,
        page: PageRequest<TenantId>,
        deadline: Instant,
    ) -> Result<Page<Tenant, TenantId>, AdminError> {
        Ok(self.store.list_tenants(call(deadline), &page).await?)
    }

    /// Reads a key and evaluates it, like a validation that reads the database.
    ///
    /// # Errors
    /// [`AdminError::NoSuchKey`]; [`AdminError::Store`].
    pub async fn get_key(&self, id: KeyId, deadline: Instant) -> Result<KeyState, AdminError> {
        let stored = self.store.get_key(call(deadline), &id).await?;
        let stored = stored.ok_or(AdminError::NoSuchKey(id))?;
        let decided_at = self.clock.now();
        let record = stored.record();
        let verdict = record.as_ref().map_or(Verdict::Unknown, |record| Verdict::of_key(record, decided_at));
        let by_hash =
            self.deny_list.is_digest_denied(&stored.digest, &self.peppers).then_some(Verdict::Revoked);
        let denial =
            by_hash.or_else(|| self.deny_list.verdict(&(&stored.key.id).into(), &stored.key.tenant_id));
        // A validation checks the deny list by hash before any lookup, so that verdict takes precedence.
        let verdict = by_hash.unwrap_or_else(|| denial.map_or(verdict, |denial| verdict.with_denial(denial)));
        Ok(KeyState { stored, verdict, decided_at, on_deny_list: denial.is_some() })
    }

    /// Lists a tenant's keys by id.
    ///
    /// # Errors
    /// [`AdminError::NoSuchTenant`] when the list is empty because there is no such tenant; [`AdminError::Store`].
    pub async fn list_keys(
        &self,
        tenant: TenantId,
        page: PageRequest<KeyId>,
        include_inactive: bool,
        deadline: Instant,
    ) -> Result<Page<ApiKey, KeyId>, AdminError> {
        let live_at = (!include_inactive).then(|| self.clock.now());
        let keys = self.store.list_keys(call(deadline), &tenant, &page, live_at).await?;
        if keys.items.is_empty() && page.after.is_none() {
            self.get_tenant(tenant, deadline).await?;
        }
        Ok(keys)
    }

    /// Lists the keys that may start with a prefix, of one tenant or of all, by their first characters and
    /// then by id.
    ///
    /// # Errors
    /// [`AdminError::NoSuchTenant`] when the list is empty because there is no such tenant; [`AdminError::Store`].
    pub async fn find_keys(
        &self,
        (prefix, tenant): (PrefixHint, Option<TenantId>),
        page: PageRequest<KeyPrefixCursor>,
        include_inactive: bool,
        deadline: Instant,
    ) -> Result<Page<ApiKey, KeyPrefixCursor>, AdminError> {
        let live_at = (!include_inactive).then(|| self.clock.now());
        let keys = self.store.find_keys(call(deadline), (&prefix, tenant.as_ref()), &page, live_at).await?;
        if let Some(tenant) = tenant.filter(|_| keys.items.is_empty() && page.after.is_none()) {
            self.get_tenant(tenant, deadline).await?;
        }
        Ok(keys)
    }

    /// Lists the audit log, newest entries first.
    ///
    /// # Errors
    /// [`AdminError::Store`].
    pub async fn list_audit(
        &self,
        filter: AuditFilter,
        page: PageRequest<AuditCursor>,
        deadline: Instant,
    ) -> Result<Page<AuditEvent, AuditCursor>, AdminError> {
        Ok(self.store.list_audit(call(deadline), &filter, &page).await?)
    }
}
