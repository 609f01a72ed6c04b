//! How the database fared the last time that it was asked to read, or to write.

use super::{clock::Moment, store::FailureKind};

/// How the database fared the last time that it was asked to read, or to write, and since when it has been so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// How the last call failed; `None` if it was answered.
    pub failure: Option<FailureKind>,
    /// When it began to work, or to fail, in whatever way.
    pub since: Moment,
    /// When the last call that tells ended.
    pub last: Moment,
}

impl Condition {
    /// The condition after a call, given the one before it.
    #[must_use]
    pub fn after(before: Option<Self>, failure: Option<FailureKind>, now: Moment) -> Self {
        match before {
            // One outage, however its calls fail.
            Some(before) if before.works() == failure.is_none() => {
                Self { failure, since: before.since, last: now }
            }
            Some(_) | None => Self { failure, since: now, last: now },
        }
    }

    /// Whether it is the same one, but for when the last call ended.
    #[must_use]
    pub fn goes_on(&self, before: Option<Self>) -> bool {
        before.is_some_and(|before| before.failure == self.failure && before.since == self.since)
    }

    /// Whether the last call was answered.
    #[must_use]
    pub fn works(&self) -> bool {
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
    fn an_outage_begins_with_its_first_failure_and_shows_its_last() {
        let (slow, away) = (Some(FailureKind::TimedOut), Some(FailureKind::Unreachable));
        let mut condition = None;
        for (second, failure, since) in
            [(1, None, 1), (2, None, 1), (3, slow, 3), (4, away, 3), (5, None, 5), (6, away, 6)]
        {
            let now = Condition::after(condition, failure, at(second));
            assert_eq!(now, Condition { failure, since: at(since), last: at(second) }, "at {second} s");
            assert_eq!(now.goes_on(condition), second == 2, "at {second} s");
            assert_eq!(now.works(), failure.is_none());
            condition = Some(now);
        }
    }
}
