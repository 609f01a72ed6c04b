//! Statistics of the cache.

use std::{hash::Hash, time::Duration};

use super::{RecordCache, pool::Pool};
use crate::{cache::lookup::Lookup, domain::change::CacheableRecord};

/// Number of entries and loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSize {
    /// Records, including preloaded ones.
    pub records: u64,
    /// Negative entries.
    pub negative_entries: u64,
    /// Ids that are being loaded.
    pub loads: usize,
}

/// Load times of recently used records, on the monotonic clock, and the number of records that are too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheCoverage {
    /// The oldest load time of a recently used record; `None` if there is no such record.
    pub oldest: Option<Duration>,
    /// The median load time of recently used records.
    pub median: Option<Duration>,
    /// Records that are too old to be served as stale.
    pub too_old: u64,
}

impl<L: Lookup> RecordCache<L> {
    /// Returns the load times of records loaded at or after `in_use`, and counts records whose age is at
    /// least `grace`. It scans the whole cache.
    pub fn coverage(&self, in_use: Duration, grace: Duration, now: Duration) -> CacheCoverage {
        let mut load_times = self.0.pool.load_times();
        let too_old = load_times.iter().filter(|at| **at + grace <= now).count() as u64;
        load_times.retain(|at| *at >= in_use);
        let mid_index = load_times.len() / 2;
        let median = (mid_index < load_times.len()).then(|| *load_times.select_nth_unstable(mid_index).1);
        CacheCoverage { oldest: load_times.iter().min().copied(), median, too_old }
    }

    /// Returns the number of entries and loads.
    pub fn size(&self) -> CacheSize {
        let (records, negative_entries) = self.0.pool.size();
        CacheSize { records, negative_entries, loads: self.0.lock_in_flight().len() }
    }

    /// Returns the number of lookups that the cache could not answer.
    pub fn misses(&self) -> u64 {
        self.0.misses.get(0)
    }

    /// Returns how many records and how many negative entries were evicted because the cache was full.
    pub fn evicted(&self) -> (u64, u64) {
        self.0.pool.evicted()
    }
}

impl<I, R> Pool<I, R>
where
    I: Clone + Eq + Hash + Send + Sync + 'static,
    R: CacheableRecord<Id = I>,
{
    /// Returns the monotonic time before the read of each record, without preloaded records that no caller
    /// has requested yet.
    fn load_times(&self) -> Vec<Duration> {
        let mut times = Vec::new();
        self.records.for_each(|entry| {
            if !entry.is_unused_preload() {
                times.push(entry.read.loaded_at());
            }
        });
        times
    }

    /// Returns the number of records and of negative entries.
    fn size(&self) -> (u64, u64) {
        // Expired entries do not count: moka removes them now.
        self.negative.run_pending_tasks();
        (self.records.len(), self.negative.entry_count())
    }
}
