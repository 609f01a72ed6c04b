//! Detects a stalled read replica of the database.
//!
//! A stalled read replica responds to every query with outdated data. A heartbeat row that changes once a
//! second distinguishes it from a database without changes. A service replica that does not see the row
//! change reads it from the primary, and changes it there if no other has. The read replica counts as stalled
//! if it does not show the primary's heartbeat soon, or if the primary does not respond while the read
//! replica does. If the primary refuses writes or does not respond to them, the heartbeat is read from it,
//! which still works.

use std::time::Duration;

/// Time within which the read replica must show the primary's heartbeat; after it the replica counts as
/// stalled.
pub const READ_REPLICA_STALL_TIMEOUT: Duration = Duration::from_secs(3);
/// The primary is read again at least this often while it fails. A failure that is older says nothing about now, nor
/// does a single one: the process may have been paused.
const MAX_FAILURE_AGE: Duration = Duration::from_secs(6);

/// State of the read replica.
#[derive(Debug, Default)]
pub(super) struct ReadReplica {
    heartbeat: Option<i64>,
    /// When it last showed a new heartbeat.
    changed_at: Duration,
    /// When the current heartbeat was written: recently, unless the replica is stalled. `None` if that was
    /// before this process started.
    heartbeat_at: Option<Duration>,
    /// Age of the heartbeat at the last read, and the time of that read.
    age: (Duration, Duration),
    /// The primary's heartbeat that is awaited, and since when.
    expected: Option<(i64, Duration)>,
    /// Since when the primary has not responded while the read replica has, and the last time.
    primary_failing: Option<(Duration, Duration)>,
}

impl ReadReplica {
    pub(super) fn record_heartbeat(&mut self, beat: i64, age: Duration, at: Duration) {
        if self.heartbeat != Some(beat) {
            self.heartbeat = Some(beat);
            self.changed_at = at;
            self.primary_failing = None;
            self.heartbeat_at = at.checked_sub(age);
        }
        self.record_answer(age, at);
        if self.expected.is_some_and(|(expected, _)| beat >= expected) {
            self.expected = None;
        }
    }

    /// Records that the read replica answered, whatever heartbeat it showed.
    pub(super) fn record_answer(&mut self, age: Duration, at: Duration) {
        self.age = (age, at);
    }

    /// If several heartbeats are awaited, the one awaited longest counts.
    pub(super) fn expect_heartbeat(&mut self, beat: i64, at: Duration) {
        self.primary_failing = None;
        let is_shown = self.heartbeat.is_some_and(|shown| shown >= beat);
        if !is_shown && self.expected.is_none() {
            self.expected = Some((beat, at));
        }
    }

    /// If the read replica does not respond either, it is an ordinary outage.
    pub(super) fn record_primary_failure(&mut self, at: Duration) {
        let (_, seen_at) = self.age;
        if at.saturating_sub(seen_at) < READ_REPLICA_STALL_TIMEOUT {
            let since = self.failing_primary(at).map_or(at, |(since, _)| since);
            self.primary_failing = Some((since, at));
        }
    }

    pub(super) fn is_stalled(&self, now: Duration) -> bool {
        let awaited_since = self.expected.map(|(_, since)| since);
        let failing_since =
            self.failing_primary(now).filter(|(first, last)| first < last).map(|(first, _)| first);
        let since = awaited_since.into_iter().chain(failing_since).min();
        since.is_some_and(|since| now.saturating_sub(since) >= READ_REPLICA_STALL_TIMEOUT)
    }

    fn failing_primary(&self, now: Duration) -> Option<(Duration, Duration)> {
        self.primary_failing.filter(|(_, last)| now.saturating_sub(*last) < MAX_FAILURE_AGE)
    }

    pub(super) fn is_heartbeat_due(&self, interval: Duration, now: Duration) -> bool {
        self.heartbeat.is_some() && now.saturating_sub(self.changed_at) >= interval
    }

    pub(super) fn last_moved_at(&self) -> Option<Duration> {
        self.heartbeat_at
    }

    pub(super) fn stalled_for(&self, now: Duration) -> Duration {
        let (age, at) = self.age;
        age + now.saturating_sub(at)
    }
}
