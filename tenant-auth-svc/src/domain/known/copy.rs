//! Whether the copy of the database that is read moves.
//!
//! A copy that stands still answers every question, with the truth of the day on which it stopped. What tells it from a
//! database in which nothing happens is a row that changes once a second. Whoever does not see it change asks the primary what it has,
//! and to change it if nobody else has. If the copy does not show soon what its primary has, or the primary gives no answer while the
//! copy does, the copy stands still. A primary that refuses or does not answer changes is asked by a read, which it answers all the
//! same.

use std::time::Duration;

/// For how long a copy may not show what its primary had before it counts as standing still.
pub const STANDSTILL: Duration = Duration::from_secs(3);

/// What is known of the copy that is read.
#[derive(Debug, Default)]
pub(super) struct Copy {
    beat: Option<i64>,
    /// When it last showed another heartbeat than before.
    changed_at: Duration,
    /// When the heartbeat that it shows was given: of a copy that moves, a moment ago. `None` if that was before this process
    /// began.
    given_at: Option<Duration>,
    /// Age of that heartbeat when it was seen, and when that was.
    age: (Duration, Duration),
    /// What the primary had, and when.
    expected: Option<(i64, Duration)>,
    /// Since when the primary has given no answer, while this copy has.
    missed: Option<Duration>,
}

impl Copy {
    pub(super) fn saw(&mut self, beat: i64, age: Duration, at: Duration) {
        if self.beat != Some(beat) {
            self.beat = Some(beat);
            self.changed_at = at;
            self.missed = None;
            self.given_at = at.checked_sub(age);
        }
        self.age = (age, at);
        if self.expected.is_some_and(|(expected, _)| beat >= expected) {
            self.expected = None;
        }
    }

    /// Of several that are waited for, the one that has been for longest decides.
    pub(super) fn expect(&mut self, beat: i64, at: Duration) {
        self.missed = None;
        let is_shown = self.beat.is_some_and(|shown| shown >= beat);
        if !is_shown && self.expected.is_none() {
            self.expected = Some((beat, at));
        }
    }

    /// Where the copy gives no answer either, it is an outage like any other.
    pub(super) fn miss(&mut self, at: Duration) {
        let (_, seen_at) = self.age;
        if at.saturating_sub(seen_at) < STANDSTILL {
            self.missed.get_or_insert(at);
        }
    }

    pub(super) fn stands_still(&self, now: Duration) -> bool {
        let since = self.expected.map(|(_, since)| since).into_iter().chain(self.missed).min();
        since.is_some_and(|since| now.saturating_sub(since) >= STANDSTILL)
    }

    pub(super) fn is_due(&self, interval: Duration, now: Duration) -> bool {
        self.beat.is_some() && now.saturating_sub(self.changed_at) >= interval
    }

    pub(super) fn moved_at(&self) -> Option<Duration> {
        self.given_at
    }

    pub(super) fn standstill(&self, now: Duration) -> Duration {
        let (age, at) = self.age;
        age + now.saturating_sub(at)
    }
}
