//! What callers are shown of a limit.

use std::time::Duration;

use super::CounterState;
use crate::domain::{
    clock::{Moment, UnixMillis},
    limit::{LimitRule, QuotaWindow, Rate, calendar},
};

/// Where a limit was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DecidedBy {
    /// From the lease, or from what the database said when it last refused.
    Lease,
    /// By the database, for this request.
    Database,
    /// From the lease, while the database does not respond.
    LocalShare,
    /// The limit was not checked: [`OutagePolicy::Open`](super::super::OutagePolicy::Open).
    OutagePolicy,
}

impl DecidedBy {
    /// All values, in order.
    pub const ALL: [Self; 4] = [Self::Lease, Self::Database, Self::LocalShare, Self::OutagePolicy];

    /// Returns the name used in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Database => "database",
            Self::LocalShare => "local_share",
            Self::OutagePolicy => "outage_policy",
        }
    }
}

/// The state of a limit, as of a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitStatus {
    /// The amount of a quota, the capacity of a rate, the balance of credits when it was last read.
    pub limit: u64,
    /// What is left, at least: other replicas may hold leases.
    pub remaining: u64,
    /// The length of the window; of a rate, the time in which an empty bucket fills.
    pub window: Option<Duration>,
    /// Time until the window ends, the bucket is full, or credits are refilled.
    pub reset_after: Option<Duration>,
    /// Time until something is added that a refused cost may be taken from.
    pub retry_after: Option<Duration>,
    /// The start of the window.
    pub window_start: Option<UnixMillis>,
}

/// Time in which `amount` flows into a bucket.
fn flow_time(rate: &Rate, amount: u64) -> Duration {
    rate.per.mul_f64(amount as f64 / rate.amount.get().max(1) as f64)
}

impl CounterState {
    /// Describes the limit to a caller who wants to take `cost`.
    #[must_use]
    pub fn status(&self, cost: u64, now: Moment) -> LimitStatus {
        let held = self.current.as_ref().map_or(0, |held| held.remaining);
        let view = self.view.as_ref();
        // What the database knew last of the window in which callers are served.
        let left =
            view.filter(|view| self.is_current_window(view.seen.window_start)).map_or(0, |view| view.left);
        let remaining = held.saturating_add(u64::try_from(left).unwrap_or_default());
        // The database's clock now, as far as it is known.
        let database_now = view.map(|view| view.now.plus(now.monotonic.saturating_sub(view.at)));
        let until = |end: UnixMillis| database_now.map(|now| end.since(now));
        match &self.limit.rule {
            LimitRule::Quota(quota) => {
                let reset_after = match quota.window {
                    QuotaWindow::Calendar(_) => view.and_then(|view| until(view.window_end)),
                    QuotaWindow::Rolling(length) => view
                        .and_then(|view| view.oldest_bucket)
                        .and_then(|start| until(start.plus(length + length / QuotaWindow::ROLLING_BUCKETS))),
                };
                let length = match quota.window {
                    QuotaWindow::Rolling(length) => Some(length),
                    QuotaWindow::Calendar(_) => {
                        view.map(|view| view.window_end.since(view.seen.window_start))
                    }
                };
                LimitStatus {
                    limit: quota.amount.get(),
                    remaining: remaining.min(quota.amount.get()),
                    window: length,
                    reset_after,
                    retry_after: reset_after.filter(|_| cost <= quota.amount.get()),
                    window_start: self
                        .current
                        .as_ref()
                        .map(|held| held.window_start)
                        .or(view.map(|view| view.seen.window_start)),
                }
            }
            LimitRule::Credits(credits) => {
                let refill = credits
                    .refill
                    .zip(database_now)
                    .map(|(refill, now)| calendar::next_start(refill.every, now).since(now));
                LimitStatus {
                    limit: view.map_or(0, |view| u64::try_from(view.credited).unwrap_or_default()),
                    remaining,
                    window: None,
                    reset_after: refill,
                    retry_after: refill,
                    window_start: None,
                }
            }
            LimitRule::Rate(rate) => {
                let burst = rate.burst.get();
                let elapsed = view.map_or(Duration::ZERO, |view| now.monotonic.saturating_sub(view.at));
                let missing = cost.saturating_sub(remaining);
                LimitStatus {
                    limit: burst,
                    remaining: remaining.min(burst),
                    window: Some(flow_time(rate, burst)),
                    reset_after: Some(
                        flow_time(rate, burst.saturating_sub(remaining)).saturating_sub(elapsed),
                    ),
                    retry_after: (cost <= burst).then(|| {
                        let pause = self
                            .refusal
                            .map_or(Duration::ZERO, |refusal| refusal.until.saturating_sub(now.monotonic));
                        flow_time(rate, missing).saturating_sub(elapsed).max(pause)
                    }),
                    window_start: None,
                }
            }
        }
    }

    fn is_current_window(&self, window: UnixMillis) -> bool {
        self.current.as_ref().is_none_or(|held| held.window_start == window)
    }
}
