//! Counts of usage events by outcome, and of the rows written for them.

use std::time::Duration;

use crate::{
    domain::usage::{IdempotentWrite, StoredOutcome},
    instruments::{
        counts::Counter,
        durations::{Distribution, DurationHistograms},
    },
};

/// The outcome of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventOutcome {
    /// It was counted.
    Counted,
    /// It was rejected and can never be counted.
    Rejected,
    /// Its request was recorded before.
    Repeated,
    /// It was refused because the queue was full.
    Refused,
    /// It was not committed.
    Failed,
}

impl EventOutcome {
    /// All outcomes, in order.
    pub const ALL: [Self; 5] = [Self::Counted, Self::Rejected, Self::Repeated, Self::Refused, Self::Failed];

    /// Returns the name used in metrics.
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
    /// One row per request.
    Requests,
    /// One row per tenant, metric and hour of a request.
    Events,
    /// One row is updated for each row in `usage_events`.
    Totals,
}

impl UsageTable {
    /// All tables, in order.
    pub const ALL: [Self; 3] = [Self::Requests, Self::Events, Self::Totals];

    /// Returns the table's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "usage_requests",
            Self::Events => "usage_events",
            Self::Totals => "usage_totals",
        }
    }
}

/// Counts of usage. One task commits and refusals are rare, so the counters are not contended.
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
    /// Returns the number of events with an outcome.
    #[must_use]
    pub fn events(&self, outcome: EventOutcome) -> u64 {
        self.outcomes[outcome as usize].get()
    }

    /// Returns the number of rows written to a table.
    #[must_use]
    pub fn rows(&self, table: UsageTable) -> u64 {
        self.rows[table as usize].get()
    }

    /// Returns the latency of the transactions.
    #[must_use]
    pub fn transaction_latency(&self) -> Distribution {
        self.latency.read(0)
    }

    pub(super) fn count_outcome(&self, outcome: EventOutcome, events: usize) {
        self.outcomes[outcome as usize].add(events as u64);
    }

    pub(super) fn record_latency(&self, latency: Duration) {
        self.latency.record(0, latency);
    }

    /// Counts a committed write, with the outcome stored under its id by this or an earlier write.
    pub(super) fn count_committed(&self, write: &IdempotentWrite, stored: &StoredOutcome) {
        if stored.already_recorded {
            self.count_outcome(EventOutcome::Repeated, write.event_count);
            return;
        }
        let known = write.totals.iter().filter(|sum| !stored.unknown_tenants.contains(&sum.tenant_id));
        let (sums, counted) = known.fold((0, 0), |(sums, events), sum| (sums + 1, events + sum.event_count));
        self.count_outcome(EventOutcome::Counted, counted);
        self.count_outcome(EventOutcome::Rejected, write.event_count.saturating_sub(counted));
        self.rows[UsageTable::Requests as usize].increment();
        self.rows[UsageTable::Events as usize].add(sums);
        self.rows[UsageTable::Totals as usize].add(sums);
    }
}
