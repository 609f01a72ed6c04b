//! How memory fares, in numbers.

use super::Cached;
use crate::store::lookup::Lookup;

/// How much there is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Records, those read ahead included.
    pub records: u64,
    /// Absences.
    pub absences: u64,
    /// Ids that are being loaded.
    pub loads: usize,
}

impl<L: Lookup> Cached<L> {
    /// How much there is in memory.
    pub fn size(&self) -> Size {
        let (records, absences) = self.0.pool.size();
        Size { records, absences, loads: self.0.flights().len() }
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
