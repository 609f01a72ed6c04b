//! What an operator can do about a running replica while the database is away.

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

/// What the audit log calls it.
const AUDIT_ENTRY_TARGET: &str = "outage_grace";
/// How long writing the audit entry may hold up the answer: an operator in an outage has other things to wait for.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(1);
/// The most entries that wait for the database. More are in the service's log alone.
const MAX_PENDING_AUDIT_ENTRIES: usize = 64;

/// The grace of this replica, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraceState {
    /// What is in force.
    pub in_force: Duration,
    /// What is configured.
    pub configured: Duration,
    /// When what is configured holds again, and why it does not now.
    pub active_override: Option<(UnixMillis, Reason)>,
}

/// What came of a change of the grace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraceChange {
    /// What holds now.
    pub state: GraceState,
    /// Whether the audit log has it; otherwise it waits for the database, and is in the service's log.
    pub is_audited: bool,
}

/// Changes the grace of this replica, for a limited time.
///
/// A change holds at once and needs no database. It goes to the service's log at once, and to the audit log as soon as the
/// database takes it.
#[derive(Debug)]
pub struct OutageGrace<S> {
    grace: Arc<Grace>,
    store: S,
    clock: SharedClock,
    reason: Mutex<Option<Reason>>,
    pending_audit: Mutex<Vec<Arc<AuditEntry>>>,
}

impl<S: AuditStore> OutageGrace<S> {
    /// Changes `grace`, and writes to `store` who did.
    pub fn new(grace: Arc<Grace>, store: S, clock: SharedClock) -> Self {
        Self { grace, store, clock, reason: Mutex::default(), pending_audit: Mutex::default() }
    }

    /// What holds now.
    #[must_use]
    pub fn state(&self) -> GraceState {
        let now = self.clock.monotonic();
        let set = self.grace.override_at(now).zip(lock(&self.reason).clone());
        GraceState {
            in_force: self.grace.at(now),
            configured: self.grace.configured(),
            active_override: set
                .map(|((_, ends), reason)| (self.clock.now().plus(ends.saturating_sub(now)), reason)),
        }
    }

    /// Another grace, for a time.
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

    /// What is configured holds again.
    pub async fn reset(&self, reason: &Reason, actor: Actor, deadline: Instant) -> GraceChange {
        self.grace.clear_override();
        *lock(&self.reason) = None;
        let detail = format!("{} s again: {}", self.grace.configured().as_secs(), reason.as_str());
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
            "the grace of this replica was changed"
        );
        let change = Change { actor, at: self.clock.now() };
        let is_kept = {
            let mut waiting = lock(&self.pending_audit);
            let is_kept = waiting.len() < MAX_PENDING_AUDIT_ENTRIES;
            if is_kept {
                waiting.push(Arc::new(AuditEntry { change, action, target: AUDIT_ENTRY_TARGET, detail }));
            }
            is_kept
        };
        let deadline = deadline.min(Instant::now() + AUDIT_TIMEOUT);
        let written = self.write_audit(|| Call::until(Lane::Admin, deadline)).await;
        GraceChange { state: self.state(), is_audited: is_kept && written.is_ok() }
    }

    /// Writes the entries that wait, if any do.
    ///
    /// # Errors
    /// When the database gives no answer: they go on waiting.
    pub async fn write_audit(&self, call: impl Fn() -> Call) -> Result<(), StoreError> {
        let entries = lock(&self.pending_audit).clone();
        if entries.is_empty() {
            return Ok(());
        }
        self.store.write_audit(call(), &entries).await?;
        // Others may have come meanwhile, and somebody else may have written these too.
        lock(&self.pending_audit).retain(|entry| !entries.iter().any(|written| Arc::ptr_eq(written, entry)));
        Ok(())
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one step.
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
