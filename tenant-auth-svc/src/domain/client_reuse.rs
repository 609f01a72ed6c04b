//! For how long a caller may reuse an answer: decided here, once, and obeyed by every client.
//!
//! Both times count from before the caller asked. What the service knows to end by itself (a key, the key presented along
//! with a session, the session) has ended both already, so that no caller compares an expiry with a clock of its own.

use std::time::Duration;

/// For how long a caller may reuse an answer without asking again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientReuse {
    /// By itself.
    pub unwatched: Duration,
    /// While the caller follows the stream of invalidations without a gap; never below `unwatched`.
    pub watched: Duration,
}

impl ClientReuse {
    /// Not at all.
    pub const NONE: Self = Self { unwatched: Duration::ZERO, watched: Duration::ZERO };

    /// Of an answer that names what could change it: `watched` while invalidations are heard.
    #[must_use]
    pub fn watchable(unwatched: Duration, watched: Duration) -> Self {
        Self { unwatched, watched: watched.max(unwatched) }
    }

    /// Of an answer that carries no id that an invalidation could name, such as "unknown".
    #[must_use]
    pub fn unwatchable(unwatched: Duration) -> Self {
        Self { unwatched, watched: unwatched }
    }

    /// The same, no longer to be announced: whatever named what could change it is not told to the caller.
    #[must_use]
    pub fn without_subject_ids(self) -> Self {
        Self::unwatchable(self.unwatched)
    }

    /// Of an answer that rests on two.
    #[must_use]
    pub fn weaker(self, other: Self) -> Self {
        Self { unwatched: self.unwatched.min(other.unwatched), watched: self.watched.min(other.watched) }
    }

    /// Neither beyond `left`.
    #[must_use]
    pub fn at_most(self, left: Duration) -> Self {
        self.weaker(Self { unwatched: left, watched: left })
    }

    /// Watched no longer than `left`: who answers from its own memory is not seen by the service.
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
