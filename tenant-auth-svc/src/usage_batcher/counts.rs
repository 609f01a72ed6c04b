//! What became of usage: events, and the rows that they cost.

use std::time::Duration;

use crate::{
    domain::usage::{Claim, Kept},
    instruments::{
        counts::Counter,
        durations::{Distribution, Durations},
    },
};

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was counted.
    Counted,
    /// It can never be counted.
    Rejected,
    /// Its request had been counted before.
    Repeated,
    /// The queue was full.
    Refused,
    /// It was not committed.
    Failed,
}

impl Fate {
    /// Every one, in order.
    pub const ALL: [Self; 5] = [Self::Counted, Self::Rejected, Self::Repeated, Self::Refused, Self::Failed];

    /// As metrics write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counted => "counted",
            Self::Rejected => "rejected",
            Self::Repeated => "repeated",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// A table that usage is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// One row for each request.
    Requests,
    /// One for each tenant, metric and hour of a request.
    Events,
    /// One is brought up to date for each of those.
    Totals,
}

impl Table {
    /// Every one, in order.
    pub const ALL: [Self; 3] = [Self::Requests, Self::Events, Self::Totals];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "usage_requests",
            Self::Events => "usage_events",
            Self::Totals => "usage_totals",
        }
    }
}

/// The counts. One task commits, and refusals are rare: nothing here is contended for.
#[derive(Debug)]
pub struct UsageCounts {
    fates: [Counter; Fate::ALL.len()],
    rows: [Counter; Table::ALL.len()],
    took: Durations,
}

impl Default for UsageCounts {
    fn default() -> Self {
        Self { fates: Default::default(), rows: Default::default(), took: Durations::new(1) }
    }
}

impl UsageCounts {
    /// How many events came to this.
    #[must_use]
    pub fn events(&self, fate: Fate) -> u64 {
        self.fates[fate as usize].get()
    }

    /// How many rows of a table were written.
    #[must_use]
    pub fn rows(&self, table: Table) -> u64 {
        self.rows[table as usize].get()
    }

    /// How long each transaction took.
    #[must_use]
    pub fn flushes(&self) -> Distribution {
        self.took.read(0)
    }

    pub(super) fn fate(&self, fate: Fate, events: usize) {
        self.fates[fate as usize].add(events as u64);
    }

    pub(super) fn took(&self, time: Duration) {
        self.took.note(0, time);
    }

    /// What was kept under a claim's id: by this claim, or by an earlier one.
    pub(super) fn committed(&self, claim: &Claim, kept: &Kept) {
        if kept.already_recorded {
            self.fate(Fate::Repeated, claim.events);
            return;
        }
        let known = claim.counted.iter().filter(|sum| !kept.unknown_tenants.contains(&sum.tenant_id));
        let (sums, counted) = known.fold((0, 0), |(sums, events), sum| (sums + 1, events + sum.events));
        self.fate(Fate::Counted, counted);
        self.fate(Fate::Rejected, claim.events.saturating_sub(counted));
        self.rows[Table::Requests as usize].one();
        self.rows[Table::Events as usize].add(sums);
        self.rows[Table::Totals as usize].add(sums);
    }
}
