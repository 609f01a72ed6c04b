//! How memory fares, in numbers.

use std::time::Duration;

use super::RecordCache;
use crate::cache::lookup::Lookup;

/// How much there is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSize {
    /// Records, those read ahead included.
    pub records: u64,
    /// Absences.
    pub negative_entries: u64,
    /// Ids that are being loaded.
    pub loads: usize,
}

/// When records were read that are in use, by the monotonic clock, and how many are too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheCoverage {
    /// The oldest one that is in use; `None` if none is.
    pub oldest: Option<Duration>,
    /// The median of those that are in use.
    pub median: Option<Duration>,
    /// Records that are too old to stand in for an answer of the database.
    pub too_old: u64,
}

impl<L: Lookup> RecordCache<L> {
    /// What there is of records read at or after `in_use`, and how many are of the age of `grace` by now, or older. Looks at
    /// everything in memory.
    pub fn coverage(&self, in_use: Duration, grace: Duration, now: Duration) -> CacheCoverage {
        let mut read = self.0.pool.load_times();
        let beyond = read.iter().filter(|at| **at + grace <= now).count() as u64;
        read.retain(|at| *at >= in_use);
        let middle = read.len() / 2;
        let median = (middle < read.len()).then(|| *read.select_nth_unstable(middle).1);
        CacheCoverage { oldest: read.iter().min().copied(), median, too_old: beyond }
    }

    /// How much there is in memory.
    pub fn size(&self) -> CacheSize {
        let (records, absences) = self.0.pool.size();
        CacheSize { records, negative_entries: absences, loads: self.0.lock_in_flight().len() }
    }

    /// How many look-ups memory could not answer.
    pub fn misses(&self) -> u64 {
        self.0.misses.get(0)
    }

    /// How many records, and how many absences, had to go for want of room.
    pub fn evicted(&self) -> (u64, u64) {
        self.0.pool.evicted()
    }
}
