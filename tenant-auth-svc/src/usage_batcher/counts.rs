//! What became of usage: events, and the rows that they cost.

use std::time::Duration;

use crate::{
    domain::usage::{IdempotentWrite, StoredOutcome},
    instruments::{
        counts::Counter,
        durations::{Distribution, DurationHistograms},
    },
};

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventOutcome {
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

impl EventOutcome {
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
pub enum UsageTable {
    /// One row for each request.
    Requests,
    /// One for each tenant, metric and hour of a request.
    Events,
    /// One is brought up to date for each of those.
    Totals,
}

impl UsageTable {
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
    outcomes: [Counter; EventOutcome::ALL.len()],
    rows: [Counter; UsageTable::ALL.len()],
    latency: DurationHistograms,
}

impl Default for UsageCounts {
    fn default() -> Self {
        Self { outcomes: Default::default(), rows: Default::default(), latency: DurationHistograms::new(1) }
    }
}

impl UsageCounts {
    /// How many events came to this.
    #[must_use]
    pub fn events(&self, fate: EventOutcome) -> u64 {
        self.outcomes[fate as usize].get()
    }

    /// How many rows of a table were written.
    #[must_use]
    pub fn rows(&self, table: UsageTable) -> u64 {
        self.rows[table as usize].get()
    }

    /// How long each transaction took.
    #[must_use]
    pub fn transaction_latency(&self) -> Distribution {
        self.latency.read(0)
    }

    pub(super) fn count_outcome(&self, fate: EventOutcome, events: usize) {
        self.outcomes[fate as usize].add(events as u64);
    }

    pub(super) fn record_latency(&self, time: Duration) {
        self.latency.record(0, time);
    }

    /// What was kept under a claim's id: by this claim, or by an earlier one.
    pub(super) fn count_committed(&self, claim: &IdempotentWrite, kept: &StoredOutcome) {
        if kept.already_recorded {
            self.count_outcome(EventOutcome::Repeated, claim.event_count);
            return;
        }
        let known = claim.totals.iter().filter(|sum| !kept.unknown_tenants.contains(&sum.tenant_id));
        let (sums, counted) = known.fold((0, 0), |(sums, events), sum| (sums + 1, events + sum.event_count));
        self.count_outcome(EventOutcome::Counted, counted);
        self.count_outcome(EventOutcome::Rejected, claim.event_count.saturating_sub(counted));
        self.rows[UsageTable::Requests as usize].increment();
        self.rows[UsageTable::Events as usize].add(sums);
        self.rows[UsageTable::Totals as usize].add(sums);
    }
}
