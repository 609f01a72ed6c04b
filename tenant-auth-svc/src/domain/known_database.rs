//! The database that this replica knows, and whether what is read is of that one, and of today.
//!
//! A replica believes the first database that it reads. From then on it believes no other: one that is empty, another one, or
//! one whose change log ends before what it has read is doubted until an operator accepts it, or the known one is back. While
//! it doubts, memory answers as in an outage. What a copy answers that stands still counts from when it last moved.

mod read_copy;

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

pub use self::read_copy::COPY_STALL_TIMEOUT;
use self::read_copy::ReadCopy;
use crate::domain::{
    clock::{Moment, SharedClock},
    identity::{DatabaseIdentity, DistrustReason, Trust},
    store::{FailureKind, StoreError},
    verdict::Revision,
};

/// What this replica knows of its database.
#[derive(Debug)]
pub struct KnownDatabase {
    clock: SharedClock,
    trust: watch::Sender<Trust>,
    /// The same as a doubt in `trust`, for the path of every request.
    is_distrusted: AtomicBool,
    copy: Mutex<ReadCopy>,
    is_stalled: AtomicBool,
}

impl KnownDatabase {
    /// Knows none yet.
    #[must_use]
    pub fn new(clock: SharedClock) -> Self {
        Self {
            clock,
            trust: watch::Sender::default(),
            is_distrusted: AtomicBool::new(false),
            copy: Mutex::default(),
            is_stalled: AtomicBool::new(false),
        }
    }

    /// What is thought of it now.
    #[must_use]
    pub fn trust(&self) -> Trust {
        self.trust.borrow().clone()
    }

    /// The same, to be told when it changes.
    pub fn watch(&self) -> watch::Receiver<Trust> {
        self.trust.subscribe()
    }

    /// Whether what is read now is not to be believed, or is old: then memory answers as in an outage.
    #[must_use]
    pub fn is_unusable(&self) -> bool {
        self.is_distrusted.load(Ordering::Acquire) || self.is_stalled.load(Ordering::Acquire)
    }

    /// Whether what is read now is not to be believed.
    #[must_use]
    pub fn is_distrusted(&self) -> bool {
        self.is_distrusted.load(Ordering::Acquire)
    }

    /// Takes a database for the known one, as read up to a position of its log, which says `mark` there: the first one, or one
    /// that was accepted, or the known one, which is back.
    pub fn confirm(&self, identity: &DatabaseIdentity, position: Revision, mark: Option<&str>) {
        self.trust.send_if_modified(|trust| {
            let was_doubted = trust.distrust.take();
            trust.found = None;
            let is_new = trust.known.as_ref() != Some(identity);
            if is_new {
                trust.known = Some(identity.clone());
                // A heartbeat of the former one would never be shown.
                *self.lock_copy() = ReadCopy::default();
            }
            trust.position = position;
            trust.anchor = mark.map(Into::into);
            if let Some((doubt, since)) = was_doubted {
                let for_s = Moment::now(&self.clock).since(since).as_secs();
                let doubt = doubt.as_str();
                tracing::warn!(%identity, doubt, for_s, "the database is believed again");
            } else if is_new {
                tracing::info!(%identity, "this is the database that is known from here on");
            }
            is_new || was_doubted.is_some()
        });
        self.is_distrusted.store(false, Ordering::Release);
    }

    /// Does not believe what was found instead of the known database; nothing, as long as none is known.
    pub fn distrust(&self, doubt: DistrustReason, found: Option<DatabaseIdentity>, log_end: Revision) {
        self.trust.send_if_modified(|trust| {
            let Some(known) = &trust.known else { return false };
            let before = trust.distrust.map(|(doubt, _)| doubt);
            if before != Some(doubt) {
                tracing::error!(
                    doubt = doubt.as_str(),
                    known = %known,
                    position = trust.position.0,
                    found = found.as_ref().map(tracing::field::display),
                    log_end = log_end.0,
                    "the database is not the one that this replica knows, so it is not believed: memory answers, as in an \
                     outage, until `tenantctl database accept` or until the known one is back"
                );
            }
            // One doubt may follow another within one incident: its beginning stays.
            let since = trust.distrust.map_or_else(|| Moment::now(&self.clock), |(_, since)| since);
            trust.distrust = Some((doubt, since));
            trust.found = Some((found, log_end));
            self.is_distrusted.store(true, Ordering::Release);
            before != Some(doubt)
        });
    }

    /// Up to where the known database's log was read.
    #[must_use]
    pub fn position(&self) -> Revision {
        self.trust.borrow().position
    }

    /// Whether what was read of a database is to be believed.
    ///
    /// # Errors
    /// [`FailureKind::Untrusted`] when it is of another database than the known one.
    pub fn check(&self, identity: &DatabaseIdentity) -> Result<(), StoreError> {
        let trust = self.trust.borrow();
        let is_another = trust.known.as_ref().is_some_and(|known| known != identity);
        if trust.distrust.is_some() || is_another { Err(untrusted_error()) } else { Ok(()) }
    }

    /// From when on, by the monotonic clock, something counts that is read now: now, unless it comes from a copy that stands
    /// still.
    ///
    /// # Errors
    /// [`FailureKind::Lagging`] when that copy has stood still for longer than this process has run.
    pub fn effective_read_time(&self, now: Duration) -> Result<Duration, StoreError> {
        if !self.is_stalled.load(Ordering::Acquire) {
            return Ok(now);
        }
        self.lock_copy().last_moved_at().ok_or_else(lagging_error)
    }

    /// The copy that is read showed this heartbeat, of that age by the database's clock.
    pub fn record_copy_heartbeat(&self, beat: i64, age: Duration, at: Duration) {
        let mut copy = self.lock_copy();
        copy.record_heartbeat(beat, age, at);
        let stands_still = copy.is_stalled(at);
        if self.is_stalled.swap(stands_still, Ordering::AcqRel) != stands_still {
            if stands_still {
                let age_s = age.as_secs();
                tracing::error!(
                    age_s,
                    "the copy of the database that is read stands still, or is cut off from its primary: memory answers, as in an outage"
                );
            } else {
                tracing::warn!("the copy of the database that is read moves again");
            }
        }
    }

    /// The primary had this heartbeat at a moment: a copy has to show it soon.
    pub fn record_primary_heartbeat(&self, beat: i64, at: Duration) {
        self.lock_copy().expect_heartbeat(beat, at);
    }

    /// The primary gave no answer at a moment at which the copy was asked for one: nobody can tell whether the copy moves.
    pub fn record_primary_failure(&self, at: Duration) {
        self.lock_copy().record_primary_failure(at);
    }

    /// Whether nobody has given a sign of life for an interval, so that this replica should.
    #[must_use]
    pub fn is_heartbeat_due(&self, interval: Duration, now: Duration) -> bool {
        self.lock_copy().is_heartbeat_due(interval, now)
    }

    /// For how long the copy that is read has stood still; `None` while it moves, or nobody can tell.
    #[must_use]
    pub fn stalled_for(&self, now: Duration) -> Option<Duration> {
        self.is_stalled.load(Ordering::Acquire).then(|| self.lock_copy().stalled_for(now))
    }

    fn lock_copy(&self) -> MutexGuard<'_, ReadCopy> {
        // Every change is made of steps that leave it usable.
        self.copy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was read is of another database than the known one.
pub(crate) fn untrusted_error() -> StoreError {
    StoreError::new(FailureKind::Untrusted, "the database is not the one that this replica knows")
}

/// What was read is older than what is known.
pub(crate) fn lagging_error() -> StoreError {
    StoreError::new(FailureKind::Lagging, "the copy of the database that answered lags behind what is known")
}

#[cfg(test)]
mod tests;
