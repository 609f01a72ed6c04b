//! Whether the copy of the database that is read moves.
//!
//! A copy that stands still answers every question, with the truth of the day on which it stopped. What tells it from a
//! database in which nothing happens is a row that changes once a second. Whoever does not see it change asks the primary what it has,
//! and to change it if nobody else has. If the copy does not show soon what its primary has, or the primary gives no answer while the
//! copy does, the copy stands still. A primary that refuses or does not answer changes is asked by a read, which it answers all the
//! same.

use std::time::Duration;

/// For how long a copy may not show what its primary had before it counts as standing still.
pub const COPY_STALL_TIMEOUT: Duration = Duration::from_secs(3);

/// What is known of the copy that is read.
#[derive(Debug, Default)]
pub(super) struct ReadCopy {
    heartbeat: Option<i64>,
    /// When it last showed another heartbeat than before.
    changed_at: Duration,
    /// When the heartbeat that it shows was given: of a copy that moves, a moment ago. `None` if that was before this process
    /// began.
    heartbeat_at: Option<Duration>,
    /// Age of that heartbeat when it was seen, and when that was.
    age: (Duration, Duration),
    /// What the primary had, and when.
    expected: Option<(i64, Duration)>,
    /// Since when the primary has given no answer, while this copy has.
    primary_failing_since: Option<Duration>,
}

impl ReadCopy {
    pub(super) fn record_heartbeat(&mut self, beat: i64, age: Duration, at: Duration) {
        if self.heartbeat != Some(beat) {
            self.heartbeat = Some(beat);
            self.changed_at = at;
            self.primary_failing_since = None;
            self.heartbeat_at = at.checked_sub(age);
        }
        self.age = (age, at);
        if self.expected.is_some_and(|(expected, _)| beat >= expected) {
            self.expected = None;
        }
    }

    /// Of several that are waited for, the one that has been for longest decides.
    pub(super) fn expect_heartbeat(&mut self, beat: i64, at: Duration) {
        self.primary_failing_since = None;
        let is_shown = self.heartbeat.is_some_and(|shown| shown >= beat);
        if !is_shown && self.expected.is_none() {
            self.expected = Some((beat, at));
        }
    }

    /// Where the copy gives no answer either, it is an outage like any other.
    pub(super) fn record_primary_failure(&mut self, at: Duration) {
        let (_, seen_at) = self.age;
        if at.saturating_sub(seen_at) < COPY_STALL_TIMEOUT {
            self.primary_failing_since.get_or_insert(at);
        }
    }

    pub(super) fn is_stalled(&self, now: Duration) -> bool {
        let since = self.expected.map(|(_, since)| since).into_iter().chain(self.primary_failing_since).min();
        since.is_some_and(|since| now.saturating_sub(since) >= COPY_STALL_TIMEOUT)
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
