//! Until when memory can do without the database.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::KeyRecordCache;
use crate::{
    cache::CacheCoverage,
    domain::{clock::Moment, grace::Grace},
    ops::status,
};

/// How often the ages of all keys in memory are looked at, at most, however often somebody asks.
const MIN_SAMPLE_INTERVAL: Duration = Duration::from_secs(5);
/// A key counts as in use if it was loaded this long before the database went away, or since: one that is asked for is loaded
/// every minute. At most half of the grace, so that the beginning of an outage is never near the end.
const RECENT_USE_WINDOW: Duration = Duration::from_secs(3_600);

/// Looks at the ages of what is in memory while the database is away. Clones share what was seen last.
#[derive(Clone)]
pub(super) struct CoverageProbe {
    key_cache: KeyRecordCache,
    grace: Arc<Grace>,
    last_sample: Arc<Mutex<Option<CoverageSample>>>,
}

#[derive(Clone, Copy)]
struct CoverageSample {
    at: Duration,
    grace: Duration,
    coverage: CacheCoverage,
}

impl fmt::Debug for CoverageProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoverageProbe").finish_non_exhaustive()
    }
}

impl CoverageProbe {
    pub(super) fn new(memory: KeyRecordCache, grace: Arc<Grace>) -> Self {
        Self { key_cache: memory, grace, last_sample: Arc::default() }
    }

    /// The grace, and what it covers while memory answers in place of the database, since `away_since`.
    pub(super) fn grace_status(&self, now: Moment, away_since: Option<Moment>) -> status::GraceStatus {
        let set = self.grace.override_at(now.monotonic);
        let in_force = self.grace.at(now.monotonic);
        status::GraceStatus {
            in_force,
            configured: self.grace.configured(),
            set_until: set.map(|(_, ends)| now.wall.plus(ends.saturating_sub(now.monotonic))),
            coverage: away_since.map(|since| self.coverage(now.monotonic, in_force, since.monotonic)),
        }
    }

    fn coverage(&self, now: Duration, grace: Duration, away_since: Duration) -> status::GraceCoverage {
        let mut seen = self.last_sample.lock().unwrap_or_else(PoisonError::into_inner);
        let recent =
            |seen: &CoverageSample| seen.grace == grace && now.saturating_sub(seen.at) < MIN_SAMPLE_INTERVAL;
        let current = match *seen {
            Some(current) if recent(&current) => current,
            Some(_) | None => {
                let in_use = away_since.saturating_sub(RECENT_USE_WINDOW.min(grace / 2));
                CoverageSample { at: now, grace, coverage: self.key_cache.coverage(in_use, grace, now) }
            }
        };
        *seen = Some(current);
        let CacheCoverage { oldest, median, too_old: beyond } = current.coverage;
        let left = |loaded_at: Duration| status::TimeLeft::until(loaded_at + grace, now);
        status::GraceCoverage {
            oldest_key: oldest.map(left),
            median_key: median.map(left),
            keys_beyond: beyond,
        }
    }
}
