//! Bulkhead: limits the number of concurrent reads, per lane.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    database::engine::{Engine, Rows, Statement, Transaction, TransactionResult},
    domain::store::{Call, FailureKind, Lane, LaneShare, StoreError},
};

/// Maximum number of concurrent reads per lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneLimits([usize; Lane::ALL.len()]);

impl LaneLimits {
    /// The minimum total: one call per lane.
    pub const MIN_TOTAL: usize = Lane::ALL.len();

    /// Divides a total of at least [`Self::MIN_TOTAL`] by the lanes' policies. Each lane gets at least one call.
    #[must_use]
    pub fn from_total(total: usize) -> Self {
        let mut limits = [1; Lane::ALL.len()];
        let mut remaining = total.saturating_sub(Self::MIN_TOTAL);
        // The smallest shares first: if the total is too small for every share, the larger ones are cut.
        let mut lanes = Lane::ALL.map(|lane| (lane, lane.policy().share));
        lanes.sort_by_key(|(_, share)| match share {
            LaneShare::OneIn(part) => std::cmp::Reverse(*part),
            LaneShare::Rest => std::cmp::Reverse(0),
        });
        for (lane, share) in lanes {
            let extra = match share {
                LaneShare::OneIn(part) => (total / part).saturating_sub(1).min(remaining),
                LaneShare::Rest => remaining,
            };
            limits[lane.index()] += extra;
            remaining -= extra;
        }
        Self(limits)
    }
}

/// An engine with a limited number of concurrent reads. A call that gets no permit before its deadline is rejected.
#[derive(Debug)]
pub struct Bulkhead<E> {
    inner: E,
    limits: LaneLimits,
    permits: [Semaphore; Lane::ALL.len()],
}

impl<E: Engine> Bulkhead<E> {
    /// Limits `inner`.
    pub fn new(inner: E, limits: LaneLimits) -> Self {
        let permits = limits.0.map(Semaphore::new);
        Self { inner, limits, permits }
    }

    /// The inner engine.
    pub fn inner(&self) -> &E {
        &self.inner
    }

    /// Maximum number of concurrent reads of a lane.
    pub fn limit(&self, lane: Lane) -> usize {
        self.limits.0[lane.index()]
    }

    /// Current number of concurrent reads of a lane.
    pub fn in_flight(&self, lane: Lane) -> usize {
        self.limit(lane).saturating_sub(self.permits[lane.index()].available_permits())
    }

    async fn acquire(&self, call: Call) -> Result<SemaphorePermit<'_>, StoreError> {
        let limit_reached = || {
            StoreError::new(
                FailureKind::Overloaded,
                format!("no permit for another {} call before its deadline", call.lane.as_str()),
            )
        };
        let permits = &self.permits[call.lane.index()];
        tokio::time::timeout_at(call.deadline.into(), permits.acquire())
            .await
            .map_err(|_| limit_reached())?
            .map_err(|_| limit_reached())
    }
}

impl<E: Engine> Engine for Bulkhead<E> {
    async fn query(&self, call: Call, statement: Statement) -> Result<Rows, StoreError> {
        let _permit = self.acquire(call).await?;
        self.inner.query(call, statement).await
    }

    /// Writes need no permit of a lane: they are queued elsewhere, and one call is in flight at a time. A lane whose
    /// reads hang must not delay them.
    async fn transactions(&self, call: Call, transactions: Vec<Transaction>) -> Vec<TransactionResult> {
        self.inner.transactions(call, transactions).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lane_limits_sum_to_total_and_are_never_zero() {
        for total in 0..200 {
            let LaneLimits(shares) = LaneLimits::from_total(total);
            assert_eq!(shares.iter().sum::<usize>(), total.max(LaneLimits::MIN_TOTAL), "{total}");
            assert!(shares.iter().all(|share| *share >= 1), "{total}: {shares:?}");
        }
        assert_eq!(LaneLimits::from_total(64), LaneLimits([16, 16, 8, 4, 4, 8, 4, 4]));
    }
}
