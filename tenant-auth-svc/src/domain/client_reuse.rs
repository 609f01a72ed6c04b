//! How long a caller may reuse an answer. The server decides this here, and every client follows it.
//!
//! Both times count from before the caller sent its request. They never exceed a known expiry (of the key, of
//! the key presented with a session, of the session), so that no caller compares an expiry with its own
//! clock.

use std::time::Duration;

/// How long a caller may reuse an answer without another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientReuse {
    /// Without the stream of invalidations.
    pub unwatched: Duration,
    /// While the caller follows the stream of invalidations without a gap; never below `unwatched`.
    pub watched: Duration,
}

impl ClientReuse {
    /// The answer may not be reused.
    pub const NONE: Self = Self { unwatched: Duration::ZERO, watched: Duration::ZERO };

    /// Returns the times of an answer that carries the ids that an invalidation can name. `watched` applies
    /// while the caller follows the stream of invalidations; it is raised to `unwatched` if it is shorter.
    #[must_use]
    pub fn watchable(unwatched: Duration, watched: Duration) -> Self {
        Self { unwatched, watched: watched.max(unwatched) }
    }

    /// Returns the times of an answer without an id that an invalidation can name, such as "unknown".
    #[must_use]
    pub fn unwatchable(unwatched: Duration) -> Self {
        Self { unwatched, watched: unwatched }
    }

    /// Returns the times of the same answer if the caller does not receive its ids, so that it cannot match
    /// invalidations.
    #[must_use]
    pub fn without_subject_ids(self) -> Self {
        Self::unwatchable(self.unwatched)
    }

    /// Returns the times of an answer that depends on both: the minimum of each time.
    #[must_use]
    pub fn weaker(self, other: Self) -> Self {
        Self { unwatched: self.unwatched.min(other.unwatched), watched: self.watched.min(other.watched) }
    }

    /// Limits both times to `left`.
    #[must_use]
    pub fn at_most(self, left: Duration) -> Self {
        self.weaker(Self { unwatched: left, watched: left })
    }

    /// Limits the watched time to `left`, but not below the unwatched time. The server does not see answers
    /// that a caller serves from its own cache.
    #[must_use]
    pub fn watched_at_most(self, left: Duration) -> Self {
        Self::watchable(self.unwatched, self.watched.min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn watching_never_shortens_reuse() {
        assert_eq!(
            ClientReuse::watchable(5 * SECOND, 60 * SECOND),
            ClientReuse { unwatched: 5 * SECOND, watched: 60 * SECOND }
        );
        assert_eq!(ClientReuse::watchable(5 * SECOND, Duration::ZERO), ClientReuse::unwatchable(5 * SECOND));
        assert_eq!(
            ClientReuse::watchable(5 * SECOND, 60 * SECOND).watched_at_most(SECOND),
            ClientReuse::unwatchable(5 * SECOND)
        );
    }

    #[test]
    fn weaker_takes_the_minimum_of_each_time() {
        let (session, key) = (
            ClientReuse::watchable(5 * SECOND, 20 * SECOND),
            ClientReuse::watchable(2 * SECOND, 60 * SECOND),
        );
        assert_eq!(session.weaker(key), ClientReuse { unwatched: 2 * SECOND, watched: 20 * SECOND });
        assert_eq!(
            session.weaker(ClientReuse::unwatchable(4 * SECOND)),
            ClientReuse::unwatchable(4 * SECOND)
        );
        assert_eq!(session.weaker(ClientReuse::NONE), ClientReuse::NONE);
        assert_eq!(key.at_most(SECOND), ClientReuse::unwatchable(SECOND));
        assert_eq!(key.at_most(10 * SECOND), ClientReuse { unwatched: 2 * SECOND, watched: 10 * SECOND });
    }
}
