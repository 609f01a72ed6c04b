//! The use cases of operators: tenants, keys and the audit log.

mod deletion;
mod error;
mod explain;
mod queries;
mod update;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

pub use self::{
    deletion::DeletionProgress,
    error::AdminError,
    explain::{ExplainQuery, ExplainedVerdict, KeyHistory, KeyReference, ResolvedKey},
    queries::KeyState,
};
use super::{
    audit::Actor,
    change::{ChangeEvent, ChangeKind, Invalidate, InvalidateNegative, PerSubject, WriteThrough},
    clock::{SharedClock, UnixMillis},
    deny::ActiveDenyList,
    id::{KeyId, TenantId},
    key::{
        ApiKey, ImportOutcome, KeyFormat, KeyHash, KeyRecord, KeyToImport, NewKey, Peppers, PresentedKey,
        RandomnessUnavailable, Rotation, RotationOutcome, SuccessorExpiry,
    },
    network::AllowedNetworks,
    scope::ScopeSet,
    store::{Call, Change, Committed, Lane, Store, StoreError},
    tenant::{CreatedTenant, NewTenant, Tenant, TenantStatus},
    text::{KeyName, Plan, PrefixHint, Reason, TenantName},
    verdict::Revision,
};

/// How long a rotated key stays valid if the request does not say otherwise.
pub const DEFAULT_ROTATION_OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest time that a rotated key may stay valid.
pub const MAX_ROTATION_OVERLAP: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// A key that was just issued. Only here does its plaintext exist in the service.
#[derive(Debug)]
pub struct IssuedKey {
    /// The stored key.
    pub key: ApiKey,
    /// The plaintext.
    pub plaintext: PresentedKey,
}

/// A key to issue.
#[derive(Clone, Debug)]
pub struct KeyToIssue {
    /// The tenant that will own it.
    pub tenant_id: TenantId,
    /// Display name.
    pub name: KeyName,
    /// Its scopes.
    pub scopes: ScopeSet,
    /// The networks from which it may be used.
    pub allowed_networks: AllowedNetworks,
    /// When it expires; `None` means never.
    pub expires_at: Option<UnixMillis>,
    /// Why it is issued, for the audit log.
    pub reason: Option<Reason>,
}

/// The cache of keys, and of sessions that depend on them.
pub trait KeyCache: Invalidate + InvalidateNegative<KeyHash> + WriteThrough<KeyHash, KeyRecord> {}

impl<M: Invalidate + InvalidateNegative<KeyHash> + WriteThrough<KeyHash, KeyRecord>> KeyCache for M {}

/// Manages tenants and keys.
#[derive(Debug)]
pub struct Admin<S, M> {
    store: S,
    cache: M,
    format: KeyFormat,
    deny_list: Arc<ActiveDenyList>,
    peppers: Arc<Peppers>,
    clock: SharedClock,
}

impl<S: Store, M: KeyCache> Admin<S, M> {
    /// Manages the tenants and keys in `store`, and applies every change to `cache`.
    pub fn new(store: S, cache: M, format: KeyFormat, clock: SharedClock) -> Self {
        Self { store, cache, format, deny_list: Arc::default(), peppers: Arc::default(), clock }
    }

    /// Sets the deny list, and the peppers that find keys which it denies by hash.
    #[must_use]
    pub fn with_deny_list(self, deny_list: Arc<ActiveDenyList>, peppers: Arc<Peppers>) -> Self {
        Self { deny_list, peppers, ..self }
    }

    /// Creates a tenant, or returns the existing one with the same id, name and plan.
    ///
    /// # Errors
    /// [`AdminError::TenantExists`] when the tenant exists with other values; [`AdminError::TenantBeingDeleted`];
    /// [`AdminError::Store`].
    pub async fn create_tenant(
        &self,
        id: Option<TenantId>,
        name: TenantName,
        plan: Plan,
        actor: Actor,
        deadline: Instant,
    ) -> Result<Committed<CreatedTenant>, AdminError> {
        let new = NewTenant { id: id.unwrap_or_else(TenantId::generate), name, plan };
        let created = self.store.create_tenant(call(deadline), &new, &self.new_change(actor)).await?;
        let stored = &created.outcome.tenant;
        let differing = [("name", stored.name != new.name), ("plan", stored.plan != new.plan)];
        if stored.deletion_started_at.is_some() {
            return Err(AdminError::TenantBeingDeleted(new.id));
        }
        let fields: Vec<_> =
            differing.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field).collect();
        if fields.is_empty() { Ok(created) } else { Err(AdminError::TenantExists { tenant: new.id, fields }) }
    }

    /// Suspends or resumes a tenant.
    ///
    /// # Errors
    /// [`AdminError::NoSuchTenant`]; [`AdminError::TenantBeingDeleted`]; [`AdminError::Store`].
    pub async fn set_tenant_status(
        &self,
        id: TenantId,
        status: TenantStatus,
        reason: Option<Reason>,
        actor: Actor,
        deadline: Instant,
    ) -> Result<Committed<Tenant>, AdminError> {
        let change = self.new_change(actor);
        let outcome =
            self.store.set_tenant_status(call(deadline), &id, status, reason.as_ref(), &change).await;
        // Also after a failure: the response may have been lost after the commit.
        let kind = match &outcome {
            Ok(Committed { outcome: Some(tenant), .. }) if tenant.status == TenantStatus::Suspended => {
                ChangeKind::Suspended
            }
            _ => ChangeKind::Changed,
        };
        self.cache.apply(&PerSubject::for_tenant(&id, local_change(kind, &outcome)));
        let changed = found(outcome?, || AdminError::NoSuchTenant(id))?;
        match changed.outcome.status == status {
            true => Ok(changed),
            false => Err(AdminError::TenantBeingDeleted(changed.outcome.id)),
        }
    }

    /// Issues a key.
    ///
    /// # Errors
    /// [`AdminError::NoSuchTenant`]; [`AdminError::TenantBeingDeleted`]; [`AdminError::ExpiryNotInFuture`];
    /// [`AdminError::EntropyUnavailable`]; [`AdminError::Store`], after which the key may exist although its plaintext is
    /// lost.
    pub async fn issue_key(
        &self,
        key_to_issue: KeyToIssue,
        actor: Actor,
        deadline: Instant,
    ) -> Result<Committed<IssuedKey>, AdminError> {
        let change = self.new_change(actor);
        check_expiry(key_to_issue.expires_at, change.at)?;
        let (plaintext, hash, prefix_hint) = self.generate_key()?;
        let key = NewKey {
            id: KeyId::generate(),
            tenant_id: key_to_issue.tenant_id,
            hash,
            name: key_to_issue.name,
            prefix_hint,
            scopes: key_to_issue.scopes,
            allowed_networks: key_to_issue.allowed_networks,
            expires_at: key_to_issue.expires_at,
        };
        let begun = self.cache.begin();
        let Committed { outcome, revision } =
            self.store.insert_key(call(deadline), &key, key_to_issue.reason.as_ref(), &change).await?;
        let Some((stored, record)) = outcome else {
            let tenant = self.get_tenant(key.tenant_id, deadline).await?;
            return Err(match tenant.deletion_started_at {
                Some(_) => AdminError::TenantBeingDeleted(tenant.id),
                None => AdminError::NoSuchTenant(tenant.id),
            });
        };
        self.cache.invalidate_negative(std::slice::from_ref(&hash), Some(revision));
        self.cache.put(begun, &hash, record, revision);
        Ok(Committed { outcome: IssuedKey { key: stored, plaintext }, revision })
    }

    /// Imports keys; one outcome each, in order.
    ///
    /// # Errors
    /// [`AdminError::Store`]: either no key was imported, or all were and the response was lost.
    pub async fn import_keys(
        &self,
        keys: Vec<KeyToImport>,
        actor: Actor,
        deadline: Instant,
    ) -> Result<Committed<Vec<ImportOutcome>>, AdminError> {
        if keys.is_empty() {
            return Ok(Committed { outcome: Vec::new(), revision: Revision::default() });
        }
        let outcome = self.store.import_keys(call(deadline), &keys, &self.new_change(actor)).await;
        let hashes: Vec<_> = keys.iter().map(|import| import.key.hash).collect();
        self.cache.invalidate_negative(&hashes, outcome.as_ref().ok().map(|committed| committed.revision));
        Ok(outcome?)
    }

    /// Replaces a key; the old one expires after the overlap. The second value is the old key.
    ///
    /// # Errors
    /// [`AdminError::NoSuchKey`]; [`AdminError::NotRotatable`]; [`AdminError::OverlapTooLong`];
    /// [`AdminError::ExpiryNotInFuture`]; [`AdminError::EntropyUnavailable`]; [`AdminError::Store`].
    pub async fn rotate_key(
        &self,
        old: KeyId,
        overlap: Option<Duration>,
        expires_at: SuccessorExpiry,
        reason: Option<Reason>,
        actor: Actor,
        deadline: Instant,
    ) -> Result<Committed<(IssuedKey, ApiKey)>, AdminError> {
        let change = self.new_change(actor);
        if let SuccessorExpiry::At(at) = expires_at {
            check_expiry(Some(at), change.at)?;
        }
        let overlap = overlap.unwrap_or(DEFAULT_ROTATION_OVERLAP);
        if overlap > MAX_ROTATION_OVERLAP {
            return Err(AdminError::OverlapTooLong);
        }
        let (plaintext, hash, prefix_hint) = self.generate_key()?;
        let rotation = Rotation {
            old: old.clone(),
            overlap,
            id: KeyId::generate(),
            hash,
            prefix_hint,
            expires_at,
            reason,
        };
        let begun = self.cache.begin();
        let outcome = self.store.rotate_key(call(deadline), &rotation, &change).await;
        // A refused rotation has changed nothing, but it may have revealed a revocation.
        let kind = match &outcome {
            Ok(Committed { outcome: RotationOutcome::Refused(key), .. }) => revocation(key),
            Ok(Committed { outcome: RotationOutcome::Done { .. } | RotationOutcome::NoSuchKey, .. })
            | Err(_) => Some(ChangeKind::Changed),
        };
        if let Some(kind) = kind {
            self.cache.apply(&PerSubject::for_key(&old, local_change(kind, &outcome)));
        }
        let Committed { outcome, revision } = outcome?;
        match outcome {
            RotationOutcome::Done { new, old, record } => {
                self.cache.invalidate_negative(std::slice::from_ref(&hash), Some(revision));
                self.cache.put(begun, &hash, *record, revision);
                Ok(Committed { outcome: (IssuedKey { key: *new, plaintext }, *old), revision })
            }
            RotationOutcome::NoSuchKey => Err(AdminError::NoSuchKey(old)),
            RotationOutcome::Refused(key) => {
                let because = if key.revoked_at.is_some() {
                    "is revoked"
                } else if key.disabled_at.is_some() {
                    "is disabled"
                } else if key.replaced_by.is_some() {
                    "was rotated before"
                } else {
                    "has expired"
                };
                Err(AdminError::NotRotatable { key: key.id, because })
            }
        }
    }

    /// Revokes a key. This cannot be undone.
    ///
    /// # Errors
    /// [`AdminError::NoSuchKey`]; [`AdminError::Store`].
    pub async fn revoke_key(
        &self,
        id: KeyId,
        reason: Reason,
        actor: Actor,
        deadline: Instant,
    ) -> Result<Committed<ApiKey>, AdminError> {
        let change = self.new_change(actor);
        let outcome = self.store.revoke_key(call(deadline), &id, &reason, &change).await;
        let revoked = outcome.as_ref().ok().and_then(|committed| committed.outcome.as_ref());
        let kind = revoked.and_then(revocation).unwrap_or(ChangeKind::Changed);
        self.cache.apply(&PerSubject::for_key(&id, local_change(kind, &outcome)));
        found(outcome?, || AdminError::NoSuchKey(id))
    }

    fn new_change(&self, actor: Actor) -> Change {
        Change { actor, at: self.clock.now() }
    }

    fn generate_key(&self) -> Result<(PresentedKey, KeyHash, PrefixHint), RandomnessUnavailable> {
        let plaintext = self.format.generate()?;
        let hash = KeyHash::of(&plaintext);
        let prefix_hint = self.format.prefix_hint(&plaintext);
        Ok((plaintext, hash, prefix_hint))
    }
}

fn call(deadline: Instant) -> Call {
    Call::until(Lane::Admin, deadline)
}

/// Returns the event for a change by this replica. Its revision is unknown if the outcome is.
pub(super) fn local_change<T>(kind: ChangeKind, outcome: &Result<Committed<T>, StoreError>) -> ChangeEvent {
    ChangeEvent { kind, revision: outcome.as_ref().ok().map(|committed| committed.revision) }
}

/// Returns the kind of change that made a key invalid, if it is revoked or disabled.
pub(super) fn revocation(key: &ApiKey) -> Option<ChangeKind> {
    let disabled = key.disabled_at.map(|_| ChangeKind::Disabled);
    key.revoked_at.map(ChangeKind::Revoked).or(disabled)
}

/// Returns the target of a change, or the error that it does not exist.
fn found<T>(
    Committed { outcome, revision }: Committed<Option<T>>,
    missing: impl FnOnce() -> AdminError,
) -> Result<Committed<T>, AdminError> {
    Ok(Committed { outcome: outcome.ok_or_else(missing)?, revision })
}

fn check_expiry(expires_at: Option<UnixMillis>, now: UnixMillis) -> Result<(), AdminError> {
    match expires_at {
        Some(expires_at) if expires_at <= now => Err(AdminError::ExpiryNotInFuture),
        _ => Ok(()),
    }
}
