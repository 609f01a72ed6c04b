//! For how long a caller may reuse an answer: decided here, once, and obeyed by every client.
//!
//! Both times count from before the caller asked. What the service knows to end by itself (a key, the key presented along
//! with a session, the session) has ended both already, so that no caller compares an expiry with a clock of its own.

use std::time::Duration;

/// For how long a caller may reuse an answer without asking again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reuse {
    /// By itself.
    pub unwatched: Duration,
    /// While the caller follows the stream of invalidations without a gap; never below `unwatched`.
    pub watched: Duration,
}

impl Reuse {
    /// Not at all.
    pub const NONE: Self = Self { unwatched: Duration::ZERO, watched: Duration::ZERO };

    /// Of an answer that names what could change it: `watched` while invalidations are heard.
    #[must_use]
    pub fn announced(unwatched: Duration, watched: Duration) -> Self {
        Self { unwatched, watched: watched.max(unwatched) }
    }

    /// Of an answer that carries no id that an invalidation could name, such as "unknown".
    #[must_use]
    pub fn unannounced(unwatched: Duration) -> Self {
        Self { unwatched, watched: unwatched }
    }

    /// The same, no longer to be announced: whatever named what could change it is not told to the caller.
    #[must_use]
    pub fn without_names(self) -> Self {
        Self::unannounced(self.unwatched)
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
        Self::announced(self.unwatched, self.watched.min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn watching_never_shortens_what_may_be_reused_anyway() {
        assert_eq!(Reuse::announced(5 * S, 60 * S), Reuse { unwatched: 5 * S, watched: 60 * S });
        assert_eq!(Reuse::announced(5 * S, Duration::ZERO), Reuse::unannounced(5 * S));
        assert_eq!(Reuse::announced(5 * S, 60 * S).watched_at_most(S), Reuse::unannounced(5 * S));
    }

    #[test]
    fn the_shorter_of_two_holds_for_each_time_by_itself() {
        let (session, key) = (Reuse::announced(5 * S, 20 * S), Reuse::announced(2 * S, 60 * S));
        assert_eq!(session.weaker(key), Reuse { unwatched: 2 * S, watched: 20 * S });
        assert_eq!(session.weaker(Reuse::unannounced(4 * S)), Reuse::unannounced(4 * S));
        assert_eq!(session.weaker(Reuse::NONE), Reuse::NONE);
        assert_eq!(key.at_most(S), Reuse::unannounced(S));
        assert_eq!(key.at_most(10 * S), Reuse { unwatched: 2 * S, watched: 10 * S });
    }
}
