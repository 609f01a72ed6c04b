//! Decides whether reads go to the read replica of the database that has a URL of its own, or to the primary.
//!
//! The change feed compares the two: it reads the primary's log at least once a second, and the read replica's in between.
//! A state of the primary that the read replica does not show within [`MAX_LAG`] means that it lags, or is frozen; then
//! the primary answers until the read replica has shown for a while that it follows again.

mod state;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub use self::state::{LogState, PrimaryState};
use self::state::{RouteState, Transition};
use crate::domain::store::Lane;

/// Maximum time for which the read replica may lack a state of the primary and still answer reads.
pub const MAX_LAG: Duration = Duration::from_secs(1);
/// A read replica that has not been compared with the primary for this long is not used, unless the primary fails.
const COMPARISON_TIMEOUT: Duration = Duration::from_secs(3);
/// The primary is read again after this time at the latest, by the first poll of the feed after it. At the default
/// interval of the feed, two of its reads are less than a second apart.
const CHECK_INTERVAL: Duration = Duration::from_millis(700);
/// A poll of the read replica counts as a read of the feed for this long after the last read of the primary's log.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Where a read goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadSource {
    /// The read replica.
    ReadReplica,
    /// The primary.
    Primary,
}

impl ReadSource {
    /// Both sources.
    pub const ALL: [Self; 2] = [Self::ReadReplica, Self::Primary];

    /// Returns the name used in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadReplica => "read_replica",
            Self::Primary => "primary",
        }
    }
}

/// Why the read replica answers no reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnusedReason {
    /// It has not shown that it follows the primary, since the start or since the feed was last read.
    Unproven,
    /// It lacks a state that the primary had [`MAX_LAG`] ago: it lags, or is frozen.
    Behind,
    /// Its last reads failed.
    Failing,
    /// It is a copy of another database, or its log is not the primary's.
    OtherDatabase,
}

impl UnusedReason {
    /// Returns the name used in logs and the status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unproven => "unproven",
            Self::Behind => "behind",
            Self::Failing => "failing",
            Self::OtherDatabase => "other_database",
        }
    }
}

/// The read replica as an operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteStatus {
    /// Which server reads go to.
    pub source: ReadSource,
    /// Why they do not go to the read replica; `None` if they do.
    pub unused: Option<UnusedReason>,
    /// For how long the read replica has lacked a state of the primary; zero if it shows the last one that was read.
    pub lag: Duration,
    /// How many entries of the change log the read replica lacked when it was last read.
    pub lag_positions: u64,
    /// Whether the primary fails to answer the change feed.
    pub is_primary_failing: bool,
}

/// The highest replication index that a server has reported; 0 if it reports none.
pub type ReplicationIndex = Arc<AtomicU64>;

/// The route of reads. All times are on the monotonic clock.
#[derive(Debug)]
pub struct ReadRoute {
    state: Mutex<RouteState>,
    /// When the last write of users, and of usage, was acknowledged to this process; in milliseconds plus one, 0 for never.
    last_writes: [AtomicU64; 2],
}

impl ReadRoute {
    /// Creates the route between two servers, whose replication indexes appear in `indexes`, read replica first. The
    /// primary answers until the read replica has shown that it follows.
    #[must_use]
    pub fn new(indexes: [ReplicationIndex; 2]) -> Self {
        Self { state: Mutex::new(RouteState::new(indexes)), last_writes: Default::default() }
    }

    /// Returns the source of a read that any current answer satisfies.
    #[must_use]
    pub fn source(&self, now: Duration) -> ReadSource {
        self.lock().source(now)
    }

    /// Returns the source of a read of a lane. After a write of this process, the primary answers the reads of its kind
    /// until the read replica shows a later state. Look-ups check the position of their answer instead.
    #[must_use]
    pub fn source_for(&self, lane: Lane, now: Duration) -> ReadSource {
        let written = kind_of_writes(lane).map_or(0, |kind| self.last_writes[kind].load(Ordering::Acquire));
        let state = self.lock();
        match written.checked_sub(1).map(Duration::from_millis) {
            Some(written_at) if !state.shows_everything_until(written_at) => ReadSource::Primary,
            _ => state.source(now),
        }
    }

    /// Records that a write of a lane was acknowledged.
    pub fn record_write(&self, lane: Lane, now: Duration) {
        if let Some(kind) = kind_of_writes(lane) {
            // Rounded up: the write is not later than the recorded time.
            let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX - 2) + 2;
            self.last_writes[kind].fetch_max(millis, Ordering::AcqRel);
        }
    }

    /// Whether the feed has to read the primary's log.
    #[must_use]
    pub fn is_check_due(&self, now: Duration) -> bool {
        let state = self.lock();
        state.source(now) == ReadSource::Primary || is_due(state.primary_checked_at, now)
    }

    /// Whether the read replica's log was not read for a while, or each read of it decides about its recovery.
    #[must_use]
    pub fn is_probe_due(&self, now: Duration) -> bool {
        let state = self.lock();
        state.is_read_replica_recovering() || is_due(state.read_replica_checked_at, now)
    }

    /// Whether the primary has shown no newer heartbeat than this one.
    #[must_use]
    pub fn is_newest_heartbeat(&self, beat: i64) -> bool {
        self.lock().primary.is_none_or(|primary| beat >= primary.log.beat)
    }

    /// Whether a read of the read replica's log counts as a read of the feed.
    #[must_use]
    pub fn is_confirmed(&self, now: Duration) -> bool {
        self.confirmed_at().is_some_and(|at| now.saturating_sub(at) <= CONFIRMATION_TIMEOUT)
    }

    /// Returns when the last complete read of the primary's log began. An answer whose position is not below the known
    /// position reflects every change of verdicts before that time, whichever server gives it.
    #[must_use]
    pub fn confirmed_at(&self) -> Option<Duration> {
        self.lock().primary.as_ref().map(|primary| primary.asked_at)
    }

    /// Records the state that the primary had. Call it when the feed has applied the log up to that state.
    pub fn record_primary(&self, primary: PrimaryState) {
        let mut state = self.lock();
        state.record_primary(primary);
    }

    /// Records that the primary's log could not be read.
    pub fn record_primary_failure(&self, asked_at: Duration) {
        self.lock().record_primary_failure(asked_at);
    }

    /// Records the state that the read replica showed.
    pub fn record_read_replica(&self, shown: LogState, asked_at: Duration, now: Duration) {
        let mut state = self.lock();
        log_transition(state.record_read_replica(shown, asked_at, now), &state, now);
    }

    /// Records that a read failed at the read replica.
    pub fn record_read_replica_failure(&self, asked_at: Duration, now: Duration) {
        let mut state = self.lock();
        log_transition(state.record_failure(asked_at, now), &state, now);
    }

    /// Records that the read replica is one of another database.
    pub fn record_other_database(&self, asked_at: Duration, now: Duration) {
        let mut state = self.lock();
        log_transition(state.record_other_database(asked_at, now), &state, now);
    }

    /// Notices a read replica that has become too old, without a read.
    pub fn evaluate(&self, now: Duration) {
        let mut state = self.lock();
        log_transition(state.evaluate(now), &state, now);
    }

    /// Returns the current status.
    #[must_use]
    pub fn status(&self, now: Duration) -> RouteStatus {
        self.lock().status(now)
    }

    /// Forgets everything: the database is another one.
    pub(super) fn reset(&self) {
        self.lock().reset();
    }

    fn lock(&self) -> MutexGuard<'_, RouteState> {
        // Every step of a change leaves the state usable, so a panic does not break it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The kind of writes that a lane's reads must show. Maintenance and leases are no writes of a user.
fn kind_of_writes(lane: Lane) -> Option<usize> {
    match lane {
        Lane::Sessions | Lane::Admin => Some(0),
        Lane::Usage => Some(1),
        Lane::Known | Lane::Unknown | Lane::Limits | Lane::Feed | Lane::Maintenance => None,
    }
}

fn is_due(last: Option<Duration>, now: Duration) -> bool {
    last.is_none_or(|at| now.saturating_sub(at) >= CHECK_INTERVAL)
}

fn log_transition(transition: Option<Transition>, state: &RouteState, now: Duration) {
    let status = state.status(now);
    let (lag_ms, lag_positions) = (status.lag.as_millis(), status.lag_positions);
    match transition {
        None => {}
        Some(Transition::Used) => {
            tracing::info!("read replica follows the primary: it answers reads");
        }
        Some(Transition::Left(reason)) => {
            let reason = reason.as_str();
            tracing::error!(
                reason,
                lag_ms,
                lag_positions,
                "read replica not used: the primary answers reads"
            );
        }
    }
}
