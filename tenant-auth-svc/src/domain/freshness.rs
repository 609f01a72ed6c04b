//! What an entry in memory may still be used for: one pure decision over its age and the state of the world.
//!
//! | state of the entry | change feed healthy | feed silent | database failing |
//! |---|---|---|---|
//! | age ≤ fresh | serve, FRESH | serve, FRESH | serve, FRESH |
//! | older, ≤ refresh | serve, REFRESHING, and reload | reload and wait | serve, STALE |
//! | older, ≤ grace | reload and wait | reload and wait | serve, STALE |
//! | beyond the grace | reload and wait | reload and wait | nothing |
//!
//! While the database fails, one answer a second or two is followed by a reload that nobody waits for: the probe that finds it
//! back.
//!
//! Where a reload is waited for and fails for the database's sake, the entry is served as STALE if it is within the
//! grace. An entry that must be verified (the change log has a gap, or went backwards) is never FRESH or REFRESHING.

use std::time::Duration;

use super::verdict::Source;

/// For how long an entry is good for what. Each counts from before the read that made the entry; reads and failures
/// do not prolong any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Served without a question.
    pub fresh: Duration,
    /// Served while a reload runs, as long as the change feed vouches for it.
    pub refresh: Duration,
    /// Served while the database does not answer. Zero: never beyond `fresh`.
    pub grace: Duration,
}

/// How the database and its change feed fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// The feed was heard a moment ago: what it did not mention has not changed.
    Heard,
    /// The feed is silent; the database may answer all the same.
    Silent,
    /// The database does not answer look-ups, and asking it would only cost time.
    Failing {
        /// Whether one look-up should be tried all the same, behind an answer from memory, to see whether it does again.
        probe: bool,
    },
}

/// What to do with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Serve it.
    Serve(Source),
    /// Serve it, and see to it that it is reloaded.
    ServeAndReload(Source),
    /// Reload it, and wait.
    Reload,
}

impl Lifetimes {
    /// Decides about an entry of an age. `must_verify`: the feed can no longer vouch for it.
    #[must_use]
    pub fn decide(&self, age: Duration, must_verify: bool, world: World) -> Use {
        if age < self.fresh && !must_verify {
            return Use::Serve(Source::Fresh);
        }
        match world {
            World::Heard if age < self.refresh && !must_verify => Use::ServeAndReload(Source::Refreshing),
            World::Failing { probe: true } if self.tides_over(age) => Use::ServeAndReload(Source::Stale),
            World::Failing { probe: false } if self.tides_over(age) => Use::Serve(Source::Stale),
            World::Heard | World::Silent | World::Failing { .. } => Use::Reload,
        }
    }

    /// Whether an entry of an age may stand in for an answer that the database does not give.
    #[must_use]
    pub fn tides_over(&self, age: Duration) -> bool {
        age < self.grace.max(self.fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIMES: Lifetimes = Lifetimes {
        fresh: Duration::from_secs(5),
        refresh: Duration::from_secs(60),
        grace: Duration::from_secs(14_400),
    };
    const WORLDS: [World; 4] =
        [World::Heard, World::Silent, World::Failing { probe: false }, World::Failing { probe: true }];
    const FAILING: World = World::Failing { probe: false };

    fn at(seconds: u64, must_verify: bool, world: World) -> Use {
        LIFETIMES.decide(Duration::from_secs(seconds), must_verify, world)
    }

    /// Every row and column of the table above, on both sides of each boundary.
    #[test]
    fn the_whole_table() {
        use World::{Heard, Silent};
        let (fresh, stale) = (Use::Serve(Source::Fresh), Use::Serve(Source::Stale));
        let refreshing = Use::ServeAndReload(Source::Refreshing);
        let reload = Use::Reload;
        for (ages, heard, silent, failing) in [
            ([0, 4], fresh, fresh, fresh),
            ([5, 59], refreshing, reload, stale),
            ([60, 14_399], reload, reload, stale),
            ([14_400, 1_000_000], reload, reload, reload),
        ] {
            for age in ages {
                assert_eq!(at(age, false, Heard), heard, "{age} s, heard");
                assert_eq!(at(age, false, Silent), silent, "{age} s, silent");
                assert_eq!(at(age, false, FAILING), failing, "{age} s, failing");
                let probing = if failing == stale { Use::ServeAndReload(Source::Stale) } else { failing };
                assert_eq!(
                    at(age, false, World::Failing { probe: true }),
                    probing,
                    "{age} s, a probe is due"
                );
            }
        }
    }

    #[test]
    fn what_must_be_verified_is_only_ever_a_stopgap() {
        for age in [0, 4, 5, 59, 60, 14_399] {
            assert_eq!(at(age, true, World::Heard), Use::Reload);
            assert_eq!(at(age, true, World::Silent), Use::Reload);
            assert_eq!(at(age, true, FAILING), Use::Serve(Source::Stale));
        }
        assert_eq!(at(14_400, true, FAILING), Use::Reload);
    }

    /// A strict configuration serves nothing beyond the fresh time for the database's sake.
    #[test]
    fn without_a_grace_an_outage_prolongs_nothing() {
        let strict = Lifetimes { grace: Duration::ZERO, ..LIFETIMES };
        for seconds in [5, 59, 60, 14_399] {
            let age = Duration::from_secs(seconds);
            assert_eq!(strict.decide(age, false, FAILING), Use::Reload);
            assert!(!strict.tides_over(age));
        }
    }

    /// Growing older never makes an entry more useful, whatever the world.
    #[test]
    fn age_never_helps() {
        let rank = |decided: Use| match decided {
            Use::Serve(Source::Fresh) => 3,
            Use::ServeAndReload(Source::Refreshing) => 2,
            Use::Serve(_) | Use::ServeAndReload(_) => 1,
            Use::Reload => 0,
        };
        for world in WORLDS {
            for must_verify in [false, true] {
                let ranks: Vec<_> =
                    (0..15_000).step_by(7).map(|age| rank(at(age, must_verify, world))).collect();
                assert!(ranks.is_sorted_by(|older, newer| older >= newer), "{world:?} {must_verify}");
            }
        }
    }
}
