//! Whether the copy of the database that is read moves.
//!
//! A copy that stands still answers every question, with the truth of the day on which it stopped. What tells it from a
//! database in which nothing happens is a row that changes once a second. Whoever does not see it change asks the primary to
//! change it, which tells how far the primary is. If the copy does not show that soon, it stands still.

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
}

impl Copy {
    pub(super) fn saw(&mut self, beat: i64, age: Duration, at: Duration) {
        if self.beat != Some(beat) {
            self.beat = Some(beat);
            self.changed_at = at;
            self.given_at = at.checked_sub(age);
        }
        self.age = (age, at);
        if self.expected.is_some_and(|(expected, _)| beat >= expected) {
            self.expected = None;
        }
    }

    /// Of several that are waited for, the one that has been for longest decides.
    pub(super) fn expect(&mut self, beat: i64, at: Duration) {
        let is_shown = self.beat.is_some_and(|shown| shown >= beat);
        if !is_shown && self.expected.is_none() {
            self.expected = Some((beat, at));
        }
    }

    pub(super) fn stands_still(&self, now: Duration) -> bool {
        self.expected.is_some_and(|(_, since)| now.saturating_sub(since) >= STANDSTILL)
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
