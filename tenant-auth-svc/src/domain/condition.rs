//! The outcome of the latest read from, or write to, the database.

use super::{clock::Moment, store::FailureKind};

/// The outcome of the latest read or write, and since when the database has been healthy or failing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// How the last call failed; `None` if it succeeded.
    pub failure: Option<FailureKind>,
    /// When the database became healthy, or started to fail in any way.
    pub since: Moment,
    /// When the last conclusive call ended.
    pub last_call_at: Moment,
}

impl Condition {
    /// Returns the condition after a call, given the one before it.
    #[must_use]
    pub fn after_call(before: Option<Self>, failure: Option<FailureKind>, now: Moment) -> Self {
        match before {
            // Failures of different kinds are one outage.
            Some(before) if before.is_healthy() == failure.is_none() => {
                Self { failure, since: before.since, last_call_at: now }
            }
            Some(_) | None => Self { failure, since: now, last_call_at: now },
        }
    }

    /// Whether the condition is the same except for the time of the last call.
    #[must_use]
    pub fn is_unchanged_since(&self, before: Option<Self>) -> bool {
        before.is_some_and(|before| before.failure == self.failure && before.since == self.since)
    }

    /// Whether the last call succeeded.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.failure.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::clock::UnixMillis;

    fn at(seconds: u64) -> Moment {
        let monotonic = Duration::from_secs(seconds);
        Moment { wall: UnixMillis(0).plus(monotonic), monotonic }
    }

    #[test]
    fn outage_starts_at_its_first_failure_and_shows_its_last() {
        let (timed_out, unreachable) = (Some(FailureKind::TimedOut), Some(FailureKind::Unreachable));
        let mut condition = None;
        for (second, failure, since) in [
            (1, None, 1),
            (2, None, 1),
            (3, timed_out, 3),
            (4, unreachable, 3),
            (5, None, 5),
            (6, unreachable, 6),
        ] {
            let now = Condition::after_call(condition, failure, at(second));
            assert_eq!(
                now,
                Condition { failure, since: at(since), last_call_at: at(second) },
                "at {second} s"
            );
            assert_eq!(now.is_unchanged_since(condition), second == 2, "at {second} s");
            assert_eq!(now.is_healthy(), failure.is_none());
            condition = Some(now);
        }
    }
}
