//! What the server reports with its answers: the rows that it counts and bills, and how far its copy of the data is.

use crate::{domain::store::Lane, instruments::counts::Counts};

/// The statistics of one response. A server that does not report them reports none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Statistics {
    pub(super) rows_read: u64,
    pub(super) rows_written: u64,
    /// It rises with each change of the database, on its primary and on its replicas; 0 if it is not reported.
    pub(super) replication_index: u64,
}

impl Statistics {
    pub(super) fn add(&mut self, other: Self) {
        self.rows_read = self.rows_read.saturating_add(other.rows_read);
        self.rows_written = self.rows_written.saturating_add(other.rows_written);
        self.replication_index = self.replication_index.max(other.replication_index);
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
    pub(super) fn add(&self, lane: Lane, statistics: Statistics) {
        self.read.add(lane as usize, statistics.rows_read);
        self.written.add(lane as usize, statistics.rows_written);
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
