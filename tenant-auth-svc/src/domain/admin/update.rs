//! Changes of single values of tenants and keys.

use std::time::Instant;

use super::{Admin, AdminError, KeyCache, call, found, local_change, revocation};
use crate::domain::{
    audit::Actor,
    change::{ChangeKind, PerSubject},
    id::{KeyId, TenantId},
    key::{ApiKey, KeyUpdate},
    store::{Committed, Store, UpdateConditions},
    tenant::{Tenant, TenantStatus, TenantUpdate},
};

impl<S: Store, M: KeyCache> Admin<S, M> {
    /// Changes values of a tenant. A repeated call changes nothing and returns the tenant.
    ///
    /// # Errors
    /// [`AdminError::NoSuchTenant`]; [`AdminError::Changed`] when the tenant has another version than the update was based
    /// on, and other values than it sets; [`AdminError::Store`].
    pub async fn update_tenant(
        &self,
        id: TenantId,
        update: TenantUpdate,
        conditions: UpdateConditions,
        actor: Actor,
        deadline: Instant,
    ) -> Result<Committed<Tenant>, AdminError> {
        let change = self.new_change(actor);
        let outcome = self.store.update_tenant(call(deadline), &id, &update, &conditions, &change).await;
        // Also after a failure: the response may have been lost after the commit. The tenant may be suspended, which an
        // update does not change but reveals.
        let kind = match &outcome {
            Ok(Committed { outcome: Some(tenant), .. }) if tenant.status == TenantStatus::Suspended => {
                ChangeKind::Suspended
            }
            _ => ChangeKind::Changed,
        };
        self.cache.apply(&PerSubject::for_tenant(&id, local_change(kind, &outcome)));
        let updated = found(outcome?, || AdminError::NoSuchTenant(id))?;
        let tenant = &updated.outcome;
        if update.is_applied_to(tenant) {
            Ok(updated)
        } else {
            Err(AdminError::Changed { target: format!("tenant {}", tenant.id), etag: tenant.etag })
        }
    }

    /// Changes values of a key. A repeated call changes nothing and returns the key.
    ///
    /// # Errors
    /// [`AdminError::NoSuchKey`]; [`AdminError::KeyRevoked`]; [`AdminError::Changed`] when the key has another version than the update was based on, and other values than it
    /// sets; [`AdminError::Store`].
    pub async fn update_key(
        &self,
        id: KeyId,
        update: KeyUpdate,
        conditions: UpdateConditions,
        actor: Actor,
        deadline: Instant,
    ) -> Result<Committed<ApiKey>, AdminError> {
        let change = self.new_change(actor);
        let outcome = self.store.update_key(call(deadline), &id, &update, &conditions, &change).await;
        // Also after a failure: the response may have been lost after the commit.
        let key = outcome.as_ref().ok().and_then(|committed| committed.outcome.as_ref());
        let kind = key.and_then(revocation).unwrap_or(ChangeKind::Changed);
        self.cache.apply(&PerSubject::for_key(&id, local_change(kind, &outcome)));
        let updated = found(outcome?, || AdminError::NoSuchKey(id))?;
        let key = &updated.outcome;
        if key.revoked_at.is_some() {
            Err(AdminError::KeyRevoked(key.id.clone()))
        } else if update.is_applied_to(key) {
            Ok(updated)
        } else {
            Err(AdminError::Changed { target: format!("key {}", key.id), etag: key.etag })
        }
    }
}
