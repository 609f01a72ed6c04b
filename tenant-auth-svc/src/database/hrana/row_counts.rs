//! The rows that the server counts, and bills.

use crate::{domain::store::Lane, instruments::counts::Counts};

/// The rows of one response. A server that does not count them reports none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BilledRows {
    pub(super) read: u64,
    pub(super) written: u64,
}

impl BilledRows {
    pub(super) fn add(&mut self, other: Self) {
        self.read = self.read.saturating_add(other.read);
        self.written = self.written.saturating_add(other.written);
    }
}

/// The rows of all responses so far, by lane.
#[derive(Debug)]
pub struct RowCounts {
    read: Counts,
    written: Counts,
}

impl Default for RowCounts {
    fn default() -> Self {
        Self { read: Counts::new(Lane::ALL.len()), written: Counts::new(Lane::ALL.len()) }
    }
}

impl RowCounts {
    pub(super) fn add(&self, lane: Lane, rows: BilledRows) {
        self.read.add(lane as usize, rows.read);
        self.written.add(lane as usize, rows.written);
    }

    /// How many rows the calls of a lane have read.
    #[must_use]
    pub fn read(&self, lane: Lane) -> u64 {
        self.read.get(lane as usize)
    }

    /// How many rows the calls of a lane have written.
    #[must_use]
    pub fn written(&self, lane: Lane) -> u64 {
        self.written.get(lane as usize)
    }
}
