//! The database that this replica knows, and whether results come from it and are current.
//!
//! A replica trusts the first database that it reads. After that it distrusts any other one: an empty one, a
//! different one, or one whose change log ends before the position read. It does so until an operator accepts
//! that database, or the known one is back. Meanwhile the cache serves as in an outage. Results from a
//! stalled read replica count as of the time of its last progress.

mod read_replica;
pub mod read_route;

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

pub use self::read_replica::READ_REPLICA_STALL_TIMEOUT;
use self::{
    read_replica::ReadReplica,
    read_route::{ReadRoute, ReadSource},
};
use crate::domain::{
    clock::{Moment, SharedClock},
    identity::{DatabaseIdentity, DistrustReason, Trust},
    store::{FailureKind, StoreError},
    verdict::Revision,
};

/// The known database of this replica.
#[derive(Debug)]
pub struct KnownDatabase {
    clock: SharedClock,
    trust: watch::Sender<Trust>,
    /// Whether `trust` contains a distrust reason. A copy for the path of every request.
    is_distrusted: AtomicBool,
    read_replica: Mutex<ReadReplica>,
    is_stalled: AtomicBool,
    /// `None` if one URL serves reads and writes.
    read_route: Option<ReadRoute>,
}

impl KnownDatabase {
    /// Creates the state without a known database.
    #[must_use]
    pub fn new(clock: SharedClock) -> Self {
        Self {
            clock,
            trust: watch::Sender::default(),
            is_distrusted: AtomicBool::new(false),
            read_replica: Mutex::default(),
            is_stalled: AtomicBool::new(false),
            read_route: None,
        }
    }

    /// Creates the state without a known database, whose read replica has a URL of its own.
    #[must_use]
    pub fn with_read_replica(clock: SharedClock, route: ReadRoute) -> Self {
        Self { read_route: Some(route), ..Self::new(clock) }
    }

    /// Returns the route of reads; `None` if one URL serves reads and writes.
    #[must_use]
    pub fn read_route(&self) -> Option<&ReadRoute> {
        self.read_route.as_ref()
    }

    /// Whether the primary answers reads in place of a read replica with a URL of its own.
    #[must_use]
    pub fn is_read_replica_unused(&self, now: Duration) -> bool {
        self.read_route.as_ref().is_some_and(|route| route.source(now) == ReadSource::Primary)
    }

    /// Returns the time as of which a read that begins now counts, if the position of its answer is not below
    /// [`position`](Self::position): `now`, or when the primary's log was last read before, if a read replica may
    /// answer. Take it before the position.
    #[must_use]
    pub fn reads_count_from(&self, now: Duration) -> Duration {
        // Before the first read of the log, nothing is known about the read replica, and the primary answers.
        self.read_route.as_ref().and_then(ReadRoute::confirmed_at).map_or(now, |at| at.min(now))
    }

    /// Whether the read replica is stalled, or cut off from its primary: results are dated by its last progress.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.is_stalled.load(Ordering::Acquire)
    }

    /// Returns the current trust.
    #[must_use]
    pub fn trust(&self) -> Trust {
        self.trust.borrow().clone()
    }

    /// Returns a receiver that is notified when the trust changes.
    pub fn watch(&self) -> watch::Receiver<Trust> {
        self.trust.subscribe()
    }

    /// Whether current results are distrusted or outdated. Then the cache serves as in an outage.
    #[must_use]
    pub fn is_unusable(&self) -> bool {
        self.is_distrusted.load(Ordering::Acquire) || self.is_stalled.load(Ordering::Acquire)
    }

    /// Whether current results are distrusted.
    #[must_use]
    pub fn is_distrusted(&self) -> bool {
        self.is_distrusted.load(Ordering::Acquire)
    }

    /// Confirms a database as the known one, read up to a position of its log, where the entry is `anchor`.
    /// It is the first database, one that was accepted, or the known one that is back.
    pub fn confirm(&self, identity: &DatabaseIdentity, position: Revision, anchor: Option<&str>) {
        self.trust.send_if_modified(|trust| {
            let previous_distrust = trust.distrust.take();
            trust.found = None;
            let is_new = trust.known.as_ref() != Some(identity);
            if is_new {
                trust.known = Some(identity.clone());
                // The heartbeat of the previous database would never appear.
                *self.lock_read_replica() = ReadReplica::default();
                if let Some(route) = &self.read_route {
                    route.reset();
                }
            }
            trust.position = position;
            trust.anchor = anchor.map(Into::into);
            if let Some((reason, since)) = previous_distrust {
                let for_s = Moment::now(&self.clock).since(since).as_secs();
                tracing::warn!(%identity, reason = reason.as_str(), for_s, "database trusted again");
            } else if is_new {
                tracing::info!(%identity, "database identity recorded as known");
            }
            is_new || previous_distrust.is_some()
        });
        self.is_distrusted.store(false, Ordering::Release);
    }

    /// Distrusts a database found instead of the known one. It has no effect while no database is known.
    pub fn distrust(&self, reason: DistrustReason, found: Option<DatabaseIdentity>, log_end: Revision) {
        self.trust.send_if_modified(|trust| {
            let Some(known) = &trust.known else { return false };
            let before = trust.distrust.map(|(reason, _)| reason);
            if before != Some(reason) {
                tracing::error!(
                    reason = reason.as_str(),
                    known = %known,
                    position = trust.position.0,
                    found = found.as_ref().map(tracing::field::display),
                    log_end = log_end.0,
                    "database not trusted: it is not the one that this replica knows; the cache serves as in an outage \
                     until `tenantctl database accept` or until the known one is back"
                );
            }
            // One incident may have several reasons in turn: its start time stays.
            let since = trust.distrust.map_or_else(|| Moment::now(&self.clock), |(_, since)| since);
            trust.distrust = Some((reason, since));
            trust.found = Some((found, log_end));
            self.is_distrusted.store(true, Ordering::Release);
            before != Some(reason)
        });
    }

    /// Returns the position up to which the known database's log was read.
    #[must_use]
    pub fn position(&self) -> Revision {
        self.trust.borrow().position
    }

    /// Checks that a result comes from the known, trusted database.
    ///
    /// # Errors
    /// [`FailureKind::Untrusted`] when it comes from a different database, or the database is distrusted.
    pub fn check(&self, identity: &DatabaseIdentity) -> Result<(), StoreError> {
        let trust = self.trust.borrow();
        let is_another = trust.known.as_ref().is_some_and(|known| known != identity);
        if trust.distrust.is_some() || is_another { Err(untrusted_error()) } else { Ok(()) }
    }

    /// Returns the time, on the monotonic clock, as of which a result counts that was read at `now`: that time, unless
    /// the read replica is stalled.
    ///
    /// # Errors
    /// [`FailureKind::Lagging`] when the read replica stalled before this process started.
    pub fn effective_read_time(&self, now: Duration) -> Result<Duration, StoreError> {
        if !self.is_stalled.load(Ordering::Acquire) {
            return Ok(now);
        }
        self.lock_read_replica().last_moved_at().ok_or_else(lagging_error)
    }

    /// Records the heartbeat that the read replica shows, and its age by the database's clock.
    pub fn record_read_replica_heartbeat(&self, beat: i64, age: Duration, at: Duration) {
        let mut read_replica = self.lock_read_replica();
        read_replica.record_heartbeat(beat, age, at);
        self.update_stall(&read_replica, age, at);
    }

    /// Records that the read replica answered, and showed an older heartbeat than the primary has shown.
    pub fn record_older_heartbeat(&self, age: Duration, at: Duration) {
        let mut read_replica = self.lock_read_replica();
        read_replica.record_answer(age, at);
        self.update_stall(&read_replica, age, at);
    }

    fn update_stall(&self, read_replica: &ReadReplica, age: Duration, at: Duration) {
        let is_stalled = read_replica.is_stalled(at);
        if self.is_stalled.swap(is_stalled, Ordering::AcqRel) != is_stalled {
            if is_stalled {
                let age_s = age.as_secs();
                tracing::error!(
                    age_s,
                    "read replica is stalled, or cut off from its primary; the cache serves as in an outage"
                );
            } else {
                tracing::warn!("read replica is no longer stalled");
            }
        }
    }

    /// Records the heartbeat that the primary had at a time. The read replica has to show it soon.
    pub fn record_primary_heartbeat(&self, beat: i64, at: Duration) {
        self.lock_read_replica().expect_heartbeat(beat, at);
    }

    /// Records that the primary did not respond while the read replica was polled: whether the replica is
    /// stalled is unknown.
    pub fn record_primary_failure(&self, at: Duration) {
        self.lock_read_replica().record_primary_failure(at);
    }

    /// Whether no replica of the service has written a heartbeat for an interval, so that this one should.
    #[must_use]
    pub fn is_heartbeat_due(&self, interval: Duration, now: Duration) -> bool {
        self.lock_read_replica().is_heartbeat_due(interval, now)
    }

    /// Returns for how long the read replica has been stalled; `None` while it is not, or its state is
    /// unknown.
    #[must_use]
    pub fn stalled_for(&self, now: Duration) -> Option<Duration> {
        self.is_stalled.load(Ordering::Acquire).then(|| self.lock_read_replica().stalled_for(now))
    }

    fn lock_read_replica(&self) -> MutexGuard<'_, ReadReplica> {
        // Every step of a change leaves the state usable, so a panic does not break it.
        self.read_replica.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the error for a result from a different database.
pub(crate) fn untrusted_error() -> StoreError {
    StoreError::new(FailureKind::Untrusted, "the database is not the one that this replica knows")
}

/// Returns the error for a result that is older than the known position.
pub(crate) fn lagging_error() -> StoreError {
    StoreError::new(FailureKind::Lagging, "the read replica lags behind the position that this replica knows")
}

#[cfg(test)]
mod tests;
