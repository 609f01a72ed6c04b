//! The use cases of operators: tenants, keys, and the audit log.

mod error;
mod queries;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

pub use self::{error::AdminError, queries::KeyState};
use super::{
    audit::Actor,
    change::{ChangeEvent, ChangeKind, Invalidate, InvalidateNegative, PerSubject, WriteThrough},
    clock::{SharedClock, UnixMillis},
    deny::ActiveDenyList,
    id::{KeyId, TenantId},
    key::{
        ApiKey, ImportOutcome, KeyFormat, KeyHash, KeyRecord, KeyToImport, NewKey, Peppers, PresentedKey,
        RandomnessUnavailable, Rotation, RotationOutcome,
    },
    scope::ScopeSet,
    store::{Call, Change, Committed, Lane, Store, StoreError},
    tenant::{NewTenant, Tenant, TenantStatus},
    text::{KeyName, Plan, PrefixHint, Reason, TenantName},
};

/// How long a replaced key stays good unless told otherwise.
pub const DEFAULT_ROTATION_OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a replaced key may stay good at most.
pub const MAX_ROTATION_OVERLAP: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// A key that was just made: the only moment at which its plaintext exists here.
#[derive(Debug)]
pub struct IssuedKey {
    /// Its public side.
    pub key: ApiKey,
    /// The key itself.
    pub plaintext: PresentedKey,
}

/// A key to issue.
#[derive(Clone, Debug)]
pub struct KeyToIssue {
    /// The tenant that will own it.
    pub tenant_id: TenantId,
    /// What a person calls it.
    pub name: KeyName,
    /// What it may do.
    pub scopes: ScopeSet,
    /// When it ends by itself.
    pub expires_at: Option<UnixMillis>,
}

/// The memory of keys, and of whatever else ends with them.
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
    /// Manages what is in `store`; `memory` is told of every change.
    pub fn new(store: S, memory: M, format: KeyFormat, clock: SharedClock) -> Self {
        Self { store, cache: memory, format, deny_list: Arc::default(), peppers: Arc::default(), clock }
    }

    /// Tells that this list denies keys; what it denies by hash is found with these peppers.
    #[must_use]
    pub fn with_deny_list(self, denied: Arc<ActiveDenyList>, peppers: Arc<Peppers>) -> Self {
        Self { deny_list: denied, peppers, ..self }
    }

    /// Creates a tenant. Repeating the call with the same id, name and plan finds the one that is there.
    ///
    /// # Errors
    /// [`AdminError::TenantExists`] when the id belongs to a different tenant; [`AdminError::Store`].
    pub async fn create_tenant(
        &self,
        id: Option<TenantId>,
        name: TenantName,
        plan: Plan,
        actor: Actor,
        deadline: Instant,
    ) -> Result<Tenant, AdminError> {
        let tenant = NewTenant { id: id.unwrap_or_else(TenantId::generate), name, plan };
        let stored = self.store.create_tenant(call(deadline), &tenant, &self.new_change(actor)).await?;
        if stored.name == tenant.name && stored.plan == tenant.plan {
            Ok(stored)
        } else {
            Err(AdminError::TenantExists(tenant.id))
        }
    }

    /// Suspends a tenant with a reason, or resumes it without one.
    ///
    /// # Errors
    /// [`AdminError::NoSuchTenant`]; [`AdminError::Store`].
    pub async fn set_tenant_suspended(
        &self,
        id: TenantId,
        reason: Option<Reason>,
        actor: Actor,
        deadline: Instant,
    ) -> Result<Tenant, AdminError> {
        let status = if reason.is_some() { TenantStatus::Suspended } else { TenantStatus::Active };
        let change = self.new_change(actor);
        let outcome =
            self.store.set_tenant_status(call(deadline), &id, status, reason.as_ref(), &change).await;
        // Even after a failure: its answer may have been lost after the commit.
        let fate = match &outcome {
            Ok(Committed { outcome: Some(tenant), .. }) if tenant.status == TenantStatus::Suspended => {
                ChangeKind::Suspended
            }
            _ => ChangeKind::Changed,
        };
        self.cache.apply(&PerSubject::for_tenant(&id, local_change(fate, &outcome)));
        outcome?.outcome.ok_or(AdminError::NoSuchTenant(id))
    }

    /// Issues a key.
    ///
    /// # Errors
    /// [`AdminError::NoSuchTenant`]; [`AdminError::ExpiryNotInFuture`]; [`AdminError::NoRandomness`];
    /// [`AdminError::Store`], after which a key that nobody knows may exist.
    pub async fn issue_key(
        &self,
        order: KeyToIssue,
        actor: Actor,
        deadline: Instant,
    ) -> Result<IssuedKey, AdminError> {
        let change = self.new_change(actor);
        check_expiry(order.expires_at, change.at)?;
        let (plaintext, hash, prefix_hint) = self.generate_key()?;
        let key = NewKey {
            id: KeyId::generate(),
            tenant_id: order.tenant_id,
            hash,
            name: order.name,
            prefix_hint,
            scopes: order.scopes,
            expires_at: order.expires_at,
        };
        let begun = self.cache.begin();
        let Committed { outcome, revision } = self.store.insert_key(call(deadline), &key, &change).await?;
        let (stored, record) = outcome.ok_or(AdminError::NoSuchTenant(key.tenant_id))?;
        self.cache.invalidate_negative(std::slice::from_ref(&hash), Some(revision));
        self.cache.put(begun, &hash, record, revision);
        Ok(IssuedKey { key: stored, plaintext })
    }

    /// Takes over keys; one outcome each, in order.
    ///
    /// # Errors
    /// [`AdminError::Store`]: then none was taken over, or all were and the answer was lost.
    pub async fn import_keys(
        &self,
        keys: Vec<KeyToImport>,
        actor: Actor,
        deadline: Instant,
    ) -> Result<Vec<ImportOutcome>, AdminError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let outcome = self.store.import_keys(call(deadline), &keys, &self.new_change(actor)).await;
        let hashes: Vec<_> = keys.iter().map(|import| import.key.hash).collect();
        self.cache.invalidate_negative(&hashes, outcome.as_ref().ok().map(|committed| committed.revision));
        Ok(outcome?.outcome)
    }

    /// Replaces a key; the old one ends after the overlap. The second value is the old key.
    ///
    /// # Errors
    /// [`AdminError::NoSuchKey`]; [`AdminError::NotRotatable`]; [`AdminError::OverlapTooLong`];
    /// [`AdminError::ExpiryNotInFuture`]; [`AdminError::NoRandomness`]; [`AdminError::Store`].
    pub async fn rotate_key(
        &self,
        old: KeyId,
        overlap: Option<Duration>,
        expires_at: Option<UnixMillis>,
        actor: Actor,
        deadline: Instant,
    ) -> Result<(IssuedKey, ApiKey), AdminError> {
        let change = self.new_change(actor);
        check_expiry(expires_at, change.at)?;
        let overlap = overlap.unwrap_or(DEFAULT_ROTATION_OVERLAP);
        if overlap > MAX_ROTATION_OVERLAP {
            return Err(AdminError::OverlapTooLong);
        }
        let (plaintext, hash, prefix_hint) = self.generate_key()?;
        let rotation =
            Rotation { old: old.clone(), overlap, id: KeyId::generate(), hash, prefix_hint, expires_at };
        let begun = self.cache.begin();
        let outcome = self.store.rotate_key(call(deadline), &rotation, &change).await;
        // What was refused has changed nothing; it may have told of an end.
        let fate = match &outcome {
            Ok(Committed { outcome: RotationOutcome::Refused(key), .. }) => {
                key.revoked_at.map(ChangeKind::Revoked)
            }
            Ok(Committed { outcome: RotationOutcome::Done { .. } | RotationOutcome::NoSuchKey, .. })
            | Err(_) => Some(ChangeKind::Changed),
        };
        if let Some(fate) = fate {
            self.cache.apply(&PerSubject::for_key(&old, local_change(fate, &outcome)));
        }
        let Committed { outcome, revision } = outcome?;
        match outcome {
            RotationOutcome::Done { new, old, record } => {
                self.cache.invalidate_negative(std::slice::from_ref(&hash), Some(revision));
                self.cache.put(begun, &hash, *record, revision);
                Ok((IssuedKey { key: *new, plaintext }, *old))
            }
            RotationOutcome::NoSuchKey => Err(AdminError::NoSuchKey(old)),
            RotationOutcome::Refused(key) => {
                let because = if key.revoked_at.is_some() {
                    "is revoked"
                } else if key.replaced_by.is_some() {
                    "was rotated before"
                } else {
                    "has expired"
                };
                Err(AdminError::NotRotatable { key: key.id, because })
            }
        }
    }

    /// Withdraws a key for good.
    ///
    /// # Errors
    /// [`AdminError::NoSuchKey`]; [`AdminError::Store`].
    pub async fn revoke_key(
        &self,
        id: KeyId,
        reason: Reason,
        actor: Actor,
        deadline: Instant,
    ) -> Result<ApiKey, AdminError> {
        let change = self.new_change(actor);
        let outcome = self.store.revoke_key(call(deadline), &id, &reason, &change).await;
        let revoked = outcome.as_ref().ok().and_then(|committed| committed.outcome.as_ref());
        let fate = revoked.and_then(|key| key.revoked_at).map_or(ChangeKind::Changed, ChangeKind::Revoked);
        self.cache.apply(&PerSubject::for_key(&id, local_change(fate, &outcome)));
        outcome?.outcome.ok_or(AdminError::NoSuchKey(id))
    }

    fn new_change(&self, actor: Actor) -> Change {
        Change { actor, at: self.clock.now() }
    }

    fn generate_key(&self) -> Result<(PresentedKey, KeyHash, PrefixHint), RandomnessUnavailable> {
        let plaintext = self.format.generate()?;
        let hash = KeyHash::of(&plaintext);
        let hint = self.format.prefix_hint(&plaintext);
        Ok((plaintext, hash, hint))
    }
}

fn call(deadline: Instant) -> Call {
    Call::until(Lane::Admin, deadline)
}

/// A change that this replica has made, or has tried to make: then nobody knows its position in the log.
pub(super) fn local_change<T>(fate: ChangeKind, outcome: &Result<Committed<T>, StoreError>) -> ChangeEvent {
    ChangeEvent { kind: fate, revision: outcome.as_ref().ok().map(|committed| committed.revision) }
}

fn check_expiry(expires_at: Option<UnixMillis>, now: UnixMillis) -> Result<(), AdminError> {
    match expires_at {
        Some(end) if end <= now => Err(AdminError::ExpiryNotInFuture),
        _ => Ok(()),
    }
}
