//! How long the cache can serve without the database.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    cache::CacheCoverage,
    domain::{clock::Moment, grace::Grace},
    ops::status,
    service_types::KeyRecordCache,
};

/// Minimum interval between two samples of the ages of all cached keys, regardless of how often the status is read.
const MIN_SAMPLE_INTERVAL: Duration = Duration::from_secs(5);
/// A key counts as recently used if it was loaded within this time before the database became unavailable, or since:
/// a key in use is reloaded every minute. Limited to half of the grace, so that the start of an outage is never near
/// the end of the grace.
const RECENT_USE_WINDOW: Duration = Duration::from_secs(3_600);

/// Samples the ages of the cached keys while the database is unavailable. Clones share the last sample.
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
    pub(super) fn new(key_cache: KeyRecordCache, grace: Arc<Grace>) -> Self {
        Self { key_cache, grace, last_sample: Arc::default() }
    }

    /// Returns the effective grace, and its coverage of the cache if the database has been unavailable since
    /// `away_since`.
    pub(super) fn grace_status(&self, now: Moment, away_since: Option<Moment>) -> status::GraceStatus {
        let override_grace = self.grace.override_at(now.monotonic);
        let effective_grace = self.grace.at(now.monotonic);
        status::GraceStatus {
            in_force: effective_grace,
            configured: self.grace.configured(),
            set_until: override_grace.map(|(_, ends)| now.wall.plus(ends.saturating_sub(now.monotonic))),
            coverage: away_since.map(|since| self.coverage(now.monotonic, effective_grace, since.monotonic)),
        }
    }

    fn coverage(&self, now: Duration, grace: Duration, away_since: Duration) -> status::GraceCoverage {
        let mut last_sample = self.last_sample.lock().unwrap_or_else(PoisonError::into_inner);
        let is_current = |sample: &CoverageSample| {
            sample.grace == grace && now.saturating_sub(sample.at) < MIN_SAMPLE_INTERVAL
        };
        let current = match *last_sample {
            Some(current) if is_current(&current) => current,
            Some(_) | None => {
                let used_since = away_since.saturating_sub(RECENT_USE_WINDOW.min(grace / 2));
                CoverageSample { at: now, grace, coverage: self.key_cache.coverage(used_since, grace, now) }
            }
        };
        *last_sample = Some(current);
        let CacheCoverage { oldest, median, too_old } = current.coverage;
        let time_left = |loaded_at: Duration| status::TimeLeft::until(loaded_at + grace, now);
        status::GraceCoverage {
            oldest_key: oldest.map(time_left),
            median_key: median.map(time_left),
            keys_beyond: too_old,
        }
    }
}
