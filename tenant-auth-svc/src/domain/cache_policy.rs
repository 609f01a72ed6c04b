//! The cache policy: every rule about how long something may be answered from memory.
//!
//! Times count from before the read that made an entry (`loaded_at`). Neither hits nor failures prolong them.
//!
//! | age of a record | change feed healthy | change feed silent | database failing |
//! |---|---|---|---|
//! | ≤ fresh | serve, FRESH | serve, FRESH | serve, FRESH |
//! | older, ≤ stale-while-revalidate | serve, REFRESHING, and reload | reload and wait | serve, STALE |
//! | older, ≤ outage grace | reload and wait | reload and wait | serve, STALE |
//! | beyond the outage grace | reload and wait | reload and wait | nothing |
//!
//! The terms are those of RFC 5861: the second row is `stale-while-revalidate`, the grace is `stale-if-error`.
//!
//! - While the database fails, one answer every one or two seconds is followed by a detached reload: the probe that detects
//!   recovery.
//! - If a reload that a request waits for fails because of the database, the entry is served as STALE while it is within the grace.
//! - An entry that needs revalidation (the change log has a gap or went backwards) is never FRESH or REFRESHING.
//! - A negative entry ("unknown key") lives for its own short time and is never served stale.
//! - Each record's fresh time differs by up to 20 %, so that records that were loaded together are not reloaded together.
//! - A caller may reuse what is fresh, for what is left of its fresh time, or for the watched time while it follows the
//!   stream of invalidations. It may not reuse an answer that is not fresh.

use std::time::Duration;

use super::{client_reuse::ClientReuse, verdict::Source};

/// How long records and negative entries may be used. The outage grace in force can differ from the configured one: see
/// [`Grace`](super::grace::Grace).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachePolicy {
    /// The fresh time of a record, before jitter: it is served without a read.
    pub fresh: Duration,
    /// The age up to which a record is served while a reload runs, if the change feed is healthy.
    pub stale_while_revalidate: Duration,
    /// The configured outage grace: the age up to which a record is served while the database fails. Zero: never beyond `fresh`.
    pub grace: Duration,
    /// The time to live of a negative entry.
    pub negative_ttl: Duration,
    /// How long a caller may reuse a fresh record while it follows the stream of invalidations.
    pub reuse_watched: Duration,
}

/// The lifetimes of one record, each as an age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Its own fresh time, jitter included.
    pub fresh: Duration,
    /// See [`CachePolicy::stale_while_revalidate`].
    pub stale_while_revalidate: Duration,
    /// The outage grace in force.
    pub grace: Duration,
}

/// The state of the database and of its change feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamHealth {
    /// The feed was read a moment ago: what it did not report has not changed.
    Healthy,
    /// The feed was not read for a while. The database may answer all the same.
    FeedSilent,
    /// The database does not answer look-ups, and a request to it would only take time.
    Failing {
        /// Whether one look-up should be sent all the same, behind an answer from the cache, to detect recovery.
        probe: bool,
    },
}

/// What to do with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheDecision {
    /// Serve it.
    Serve(Source),
    /// Serve it, and reload it in the background.
    ServeAndReload(Source),
    /// Reload it, and wait.
    Reload,
}

impl CachePolicy {
    /// The fresh time of a record. `jitter` is drawn by its id: 0 shortens the time by 20 %, 255 lengthens it by 20 %.
    #[must_use]
    pub fn fresh_for(&self, jitter: u8) -> Duration {
        self.fresh.mul_f64(0.8 + 0.4 * f64::from(jitter) / 255.0)
    }

    /// The lifetimes of a record with its own fresh time, under the outage grace in force.
    #[must_use]
    pub fn lifetimes(&self, fresh: Duration, grace: Duration) -> Lifetimes {
        Lifetimes { fresh, stale_while_revalidate: self.stale_while_revalidate, grace }
    }

    /// How long a caller may reuse an answer from an entry that stays fresh for `fresh_left`. `is_negative` answers name no id
    /// that an invalidation could name.
    #[must_use]
    pub fn client_reuse(&self, source: Source, is_negative: bool, fresh_left: Duration) -> ClientReuse {
        match (source, is_negative) {
            (Source::Database | Source::Fresh, false) => {
                ClientReuse::watchable(fresh_left, self.reuse_watched)
            }
            (Source::Database | Source::Negative, true) => ClientReuse::unwatchable(fresh_left),
            _ => ClientReuse::NONE,
        }
    }
}

impl Lifetimes {
    /// Decides about a record of an age. `needs_revalidation`: the change feed cannot confirm it.
    #[must_use]
    pub fn decide(&self, age: Duration, needs_revalidation: bool, health: UpstreamHealth) -> CacheDecision {
        if age < self.fresh && !needs_revalidation {
            return CacheDecision::Serve(Source::Fresh);
        }
        match health {
            UpstreamHealth::Healthy if age < self.stale_while_revalidate && !needs_revalidation => {
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

    /// Whether a record of an age may replace an answer that the database does not give.
    #[must_use]
    pub fn usable_when_stale(&self, age: Duration) -> bool {
        age < self.grace.max(self.fresh)
    }
}

/// The shortest time to live of a sliding session that a caller may answer for from its own cache.
const MIN_REUSABLE_SLIDING_TTL: Duration = Duration::from_secs(10 * 60);
/// The part of a sliding session's remaining time for which a caller may reuse an answer: one in so many. The server does
/// not see such an answer, and would let the session expire; the expiry of a sliding session is no more exact than this.
const SLIDING_REUSE_PART: u32 = 10;

/// How long a caller may reuse an answer about a sliding session with this time to live, `left` before it expires.
#[must_use]
pub fn sliding_session_reuse(reuse: ClientReuse, ttl: Duration, left: Duration) -> ClientReuse {
    if ttl < MIN_REUSABLE_SLIDING_TTL {
        ClientReuse::NONE
    } else {
        reuse.watched_at_most(left / SLIDING_REUSE_PART)
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

    fn at(seconds: u64, needs_revalidation: bool, health: UpstreamHealth) -> CacheDecision {
        LIFETIMES.decide(Duration::from_secs(seconds), needs_revalidation, health)
    }

    /// Every row and column of the table above, on both sides of each boundary.
    #[test]
    fn decision_table_holds_at_every_boundary() {
        use UpstreamHealth::{FeedSilent, Healthy};
        let (fresh, stale) = (CacheDecision::Serve(Source::Fresh), CacheDecision::Serve(Source::Stale));
        let refreshing = CacheDecision::ServeAndReload(Source::Refreshing);
        let reload = CacheDecision::Reload;
        for (ages, healthy, silent, failing) in [
            ([0, 4], fresh, fresh, fresh),
            ([5, 59], refreshing, reload, stale),
            ([60, 14_399], reload, reload, stale),
            ([14_400, 1_000_000], reload, reload, reload),
        ] {
            for age in ages {
                assert_eq!(at(age, false, Healthy), healthy, "{age} s, live");
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
            for needs_revalidation in [false, true] {
                let ranks: Vec<_> =
                    (0..15_000).step_by(7).map(|age| rank(at(age, needs_revalidation, world))).collect();
                assert!(ranks.is_sorted_by(|older, newer| older >= newer), "{world:?} {needs_revalidation}");
            }
        }
    }
}
