//! Counts of decisions and exchanges.

use std::time::Duration;

use crate::{
    domain::limit::{Exchange, LimitRule, counter::DecidedBy},
    instruments::{
        counts::{Counter, Counts},
        durations::{Distribution, DurationHistograms},
    },
};

/// What a limit says about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitResult {
    /// It has enough left.
    Admitted,
    /// A quota or credits have less left than the request costs.
    QuotaExceeded,
    /// A rate has less left than the request costs.
    RateLimited,
    /// A shadow limit has less left than the request costs.
    ShadowExceeded,
    /// The lease is spent and the database does not respond.
    Undecided,
}

impl LimitResult {
    /// All results, in order.
    pub const ALL: [Self; 5] =
        [Self::Admitted, Self::QuotaExceeded, Self::RateLimited, Self::ShadowExceeded, Self::Undecided];

    /// Returns the name used in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::QuotaExceeded => "quota_exceeded",
            Self::RateLimited => "rate_limited",
            Self::ShadowExceeded => "shadow_exceeded",
            Self::Undecided => "undecided",
        }
    }

    pub(super) fn of(is_exceeded: bool, is_shadow: bool, rule: &LimitRule) -> Self {
        match (is_exceeded, is_shadow, rule) {
            (false, _, _) => Self::Admitted,
            (true, true, _) => Self::ShadowExceeded,
            (true, false, LimitRule::Quota(_) | LimitRule::Credits(_)) => Self::QuotaExceeded,
            (true, false, LimitRule::Rate(_)) => Self::RateLimited,
        }
    }
}

/// Counts of limits. Decisions are counted per thread.
#[derive(Debug)]
pub struct LimitCounts {
    /// By result and by where it was decided.
    decisions: Counts,
    exchanges: Counter,
    failed_exchanges: Counter,
    leases: Counter,
    starved: Counter,
    latency: DurationHistograms,
}

impl Default for LimitCounts {
    fn default() -> Self {
        Self {
            decisions: Counts::new(LimitResult::ALL.len() * DecidedBy::ALL.len()),
            exchanges: Counter::default(),
            failed_exchanges: Counter::default(),
            leases: Counter::default(),
            starved: Counter::default(),
            latency: DurationHistograms::new(1),
        }
    }
}

fn slot(result: LimitResult, decided_by: DecidedBy) -> usize {
    result as usize * DecidedBy::ALL.len() + decided_by as usize
}

impl LimitCounts {
    /// Returns the number of decisions of limits.
    #[must_use]
    pub fn decisions(&self, result: LimitResult, decided_by: DecidedBy) -> u64 {
        self.decisions.get(slot(result, decided_by))
    }

    /// Returns the number of exchanges that were committed.
    #[must_use]
    pub fn exchanges(&self) -> u64 {
        self.exchanges.get()
    }

    /// Returns the number of attempts of exchanges that failed, or had no response for a second.
    #[must_use]
    pub fn failed_exchanges(&self) -> u64 {
        self.failed_exchanges.get()
    }

    /// Returns the number of leases that were exchanged.
    #[must_use]
    pub fn leases(&self) -> u64 {
        self.leases.get()
    }

    /// Returns how often a lease of a quota or of credits got less than callers were waiting for while other replicas held
    /// some.
    #[must_use]
    pub fn starved(&self) -> u64 {
        self.starved.get()
    }

    /// Returns the latency of the exchanges.
    #[must_use]
    pub fn exchange_latency(&self) -> Distribution {
        self.latency.read(0)
    }

    pub(super) fn count(&self, result: LimitResult, decided_by: DecidedBy) {
        self.decisions.add(slot(result, decided_by), 1);
    }

    pub(super) fn count_exchange(&self, exchange: &Exchange, latency: Duration) {
        self.exchanges.increment();
        self.leases.add(exchange.leases.len() as u64);
        self.latency.record(0, latency);
    }

    pub(super) fn count_failed_exchange(&self) {
        self.failed_exchanges.increment();
    }

    pub(super) fn count_starved(&self) {
        self.starved.increment();
    }
}
