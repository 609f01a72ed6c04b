//! Overrides of the outage grace of a running replica.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    audit::{AUDIT_LOG_TARGET, Actor, AuditAction, AuditEntry, AuditStore},
    clock::{SharedClock, UnixMillis},
    grace::Grace,
    store::{Call, Change, Lane, StoreError},
    text::Reason,
};

/// Target of the entry in the audit log.
const AUDIT_ENTRY_TARGET: &str = "outage_grace";
/// Maximum time that writing the audit entry may delay the response: in an outage the operator must not have
/// to wait.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum number of entries that wait for the database. Further ones are only in the service's log.
const MAX_PENDING_AUDIT_ENTRIES: usize = 64;

/// The grace of this replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraceState {
    /// The grace in effect.
    pub in_force: Duration,
    /// The configured grace.
    pub configured: Duration,
    /// When the override expires, and its reason; `None` without an override.
    pub active_override: Option<(UnixMillis, Reason)>,
}

/// The result of a change of the grace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraceChange {
    /// The grace after the change.
    pub state: GraceState,
    /// Whether the audit log has the entry. If not, it is in the service's log, and waits for the database.
    pub is_audited: bool,
}

/// Overrides the grace of this replica for a limited time.
///
/// A change takes effect at once and needs no database. It is written to the service's log at once, and to
/// the audit log as soon as the database accepts it.
#[derive(Debug)]
pub struct OutageGrace<S> {
    grace: Arc<Grace>,
    store: S,
    clock: SharedClock,
    reason: Mutex<Option<Reason>>,
    pending_audit: Mutex<Vec<Arc<AuditEntry>>>,
}

impl<S: AuditStore> OutageGrace<S> {
    /// Creates the use case for `grace`; audit entries are written to `store`.
    pub fn new(grace: Arc<Grace>, store: S, clock: SharedClock) -> Self {
        Self { grace, store, clock, reason: Mutex::default(), pending_audit: Mutex::default() }
    }

    /// Returns the current state.
    #[must_use]
    pub fn state(&self) -> GraceState {
        let now = self.clock.monotonic();
        let grace_override = self.grace.override_at(now).zip(lock(&self.reason).clone());
        GraceState {
            in_force: self.grace.at(now),
            configured: self.grace.configured(),
            active_override: grace_override.map(|((_, expires_at), reason)| {
                (self.clock.now().plus(expires_at.saturating_sub(now)), reason)
            }),
        }
    }

    /// Overrides the grace for a limited time.
    pub async fn set(
        &self,
        grace: Duration,
        expires_in: Duration,
        reason: Reason,
        actor: Actor,
        deadline: Instant,
    ) -> GraceChange {
        let before = self.state().in_force;
        *lock(&self.reason) = Some(reason.clone());
        self.grace.set_override(grace, self.clock.monotonic() + expires_in);
        let detail = format!(
            "{} s instead of {} s, for {} s: {}",
            grace.as_secs(),
            before.as_secs(),
            expires_in.as_secs(),
            reason.as_str()
        );
        self.audit_change(AuditAction::GraceSet, detail, actor, deadline).await
    }

    /// Resets the grace to the configured value.
    pub async fn reset(&self, reason: &Reason, actor: Actor, deadline: Instant) -> GraceChange {
        self.grace.clear_override();
        *lock(&self.reason) = None;
        let detail = format!("reset to {} s: {}", self.grace.configured().as_secs(), reason.as_str());
        self.audit_change(AuditAction::GraceReset, detail, actor, deadline).await
    }

    async fn audit_change(
        &self,
        action: AuditAction,
        detail: String,
        actor: Actor,
        deadline: Instant,
    ) -> GraceChange {
        tracing::warn!(
            target: AUDIT_LOG_TARGET,
            action = action.as_str(),
            caller = actor.caller,
            request_id = actor.request_id,
            detail,
            "outage grace of this replica changed"
        );
        let change = Change { actor, at: self.clock.now() };
        let is_pending = {
            let mut pending = lock(&self.pending_audit);
            let is_pending = pending.len() < MAX_PENDING_AUDIT_ENTRIES;
            if is_pending {
                pending.push(Arc::new(AuditEntry { change, action, target: AUDIT_ENTRY_TARGET, detail }));
            }
            is_pending
        };
        let deadline = deadline.min(Instant::now() + AUDIT_TIMEOUT);
        let written = self.write_audit(|| Call::until(Lane::Admin, deadline)).await;
        GraceChange { state: self.state(), is_audited: is_pending && written.is_ok() }
    }

    /// Writes the pending audit entries, if there are any.
    ///
    /// # Errors
    /// When the database does not respond: they stay pending.
    pub async fn write_audit(&self, call: impl Fn() -> Call) -> Result<(), StoreError> {
        let entries = lock(&self.pending_audit).clone();
        if entries.is_empty() {
            return Ok(());
        }
        self.store.write_audit(call(), &entries).await?;
        // Entries may have been added meanwhile, and another call may have written these too.
        lock(&self.pending_audit).retain(|entry| !entries.iter().any(|written| Arc::ptr_eq(written, entry)));
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is a single step, so a panic leaves the value consistent.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
