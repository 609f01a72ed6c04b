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
    pub stale_while_revalidate: Duration,
    /// Served while the database does not answer. Zero: never beyond `fresh`.
    pub grace: Duration,
}

/// How the database and its change feed fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamHealth {
    /// The feed was heard a moment ago: what it did not mention has not changed.
    Healthy,
    /// The feed is silent; the database may answer all the same.
    FeedSilent,
    /// The database does not answer look-ups, and asking it would only cost time.
    Failing {
        /// Whether one look-up should be tried all the same, behind an answer from memory, to see whether it does again.
        probe: bool,
    },
}

/// What to do with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheDecision {
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
    pub fn decide(&self, age: Duration, must_verify: bool, world: UpstreamHealth) -> CacheDecision {
        if age < self.fresh && !must_verify {
            return CacheDecision::Serve(Source::Fresh);
        }
        match world {
            UpstreamHealth::Healthy if age < self.stale_while_revalidate && !must_verify => {
                CacheDecision::ServeAndReload(Source::Refreshing)
            }
            UpstreamHealth::Failing { probe: true } if self.usable_when_stale(age) => {
                CacheDecision::ServeAndReload(Source::Stale)
            }
            UpstreamHealth::Failing { probe: false } if self.usable_when_stale(age) => {
                CacheDecision::Serve(Source::Stale)
            }
            UpstreamHealth::Healthy | UpstreamHealth::FeedSilent | UpstreamHealth::Failing { .. } => {
                CacheDecision::Reload
            }
        }
    }

    /// Whether an entry of an age may stand in for an answer that the database does not give.
    #[must_use]
    pub fn usable_when_stale(&self, age: Duration) -> bool {
        age < self.grace.max(self.fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIMES: Lifetimes = Lifetimes {
        fresh: Duration::from_secs(5),
        stale_while_revalidate: Duration::from_secs(60),
        grace: Duration::from_secs(14_400),
    };
    const HEALTH_STATES: [UpstreamHealth; 4] = [
        UpstreamHealth::Healthy,
        UpstreamHealth::FeedSilent,
        UpstreamHealth::Failing { probe: false },
        UpstreamHealth::Failing { probe: true },
    ];
    const FAILING: UpstreamHealth = UpstreamHealth::Failing { probe: false };

    fn at(seconds: u64, must_verify: bool, world: UpstreamHealth) -> CacheDecision {
        LIFETIMES.decide(Duration::from_secs(seconds), must_verify, world)
    }

    /// Every row and column of the table above, on both sides of each boundary.
    #[test]
    fn decision_table_holds_at_every_boundary() {
        use UpstreamHealth::{FeedSilent, Healthy};
        let (fresh, stale) = (CacheDecision::Serve(Source::Fresh), CacheDecision::Serve(Source::Stale));
        let refreshing = CacheDecision::ServeAndReload(Source::Refreshing);
        let reload = CacheDecision::Reload;
        for (ages, heard, silent, failing) in [
            ([0, 4], fresh, fresh, fresh),
            ([5, 59], refreshing, reload, stale),
            ([60, 14_399], reload, reload, stale),
            ([14_400, 1_000_000], reload, reload, reload),
        ] {
            for age in ages {
                assert_eq!(at(age, false, Healthy), heard, "{age} s, heard");
                assert_eq!(at(age, false, FeedSilent), silent, "{age} s, silent");
                assert_eq!(at(age, false, FAILING), failing, "{age} s, failing");
                let probing =
                    if failing == stale { CacheDecision::ServeAndReload(Source::Stale) } else { failing };
                assert_eq!(
                    at(age, false, UpstreamHealth::Failing { probe: true }),
                    probing,
                    "{age} s, a probe is due"
                );
            }
        }
    }

    #[test]
    fn unvalidated_entry_is_only_a_stale_fallback() {
        for age in [0, 4, 5, 59, 60, 14_399] {
            assert_eq!(at(age, true, UpstreamHealth::Healthy), CacheDecision::Reload);
            assert_eq!(at(age, true, UpstreamHealth::FeedSilent), CacheDecision::Reload);
            assert_eq!(at(age, true, FAILING), CacheDecision::Serve(Source::Stale));
        }
        assert_eq!(at(14_400, true, FAILING), CacheDecision::Reload);
    }

    /// A strict configuration serves nothing beyond the fresh time for the database's sake.
    #[test]
    fn zero_grace_serves_nothing_stale() {
        let strict = Lifetimes { grace: Duration::ZERO, ..LIFETIMES };
        for seconds in [5, 59, 60, 14_399] {
            let age = Duration::from_secs(seconds);
            assert_eq!(strict.decide(age, false, FAILING), CacheDecision::Reload);
            assert!(!strict.usable_when_stale(age));
        }
    }

    /// Growing older never makes an entry more useful, whatever the world.
    #[test]
    fn older_entry_is_never_more_usable() {
        let rank = |decided: CacheDecision| match decided {
            CacheDecision::Serve(Source::Fresh) => 3,
            CacheDecision::ServeAndReload(Source::Refreshing) => 2,
            CacheDecision::Serve(_) | CacheDecision::ServeAndReload(_) => 1,
            CacheDecision::Reload => 0,
        };
        for world in HEALTH_STATES {
            for must_verify in [false, true] {
                let ranks: Vec<_> =
                    (0..15_000).step_by(7).map(|age| rank(at(age, must_verify, world))).collect();
                assert!(ranks.is_sorted_by(|older, newer| older >= newer), "{world:?} {must_verify}");
            }
        }
    }
}
