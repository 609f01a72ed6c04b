//! Bounds the reads in flight, with a limit for each lane.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    database::engine::{Engine, Rows, Statement, Transaction, TransactionResult},
    domain::store::{Call, FailureKind, Lane, LaneShare, StoreError},
};

/// How many reads each lane may have in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneLimits([usize; Lane::ALL.len()]);

impl LaneLimits {
    /// The smallest total: one call for each lane.
    pub const MIN_TOTAL: usize = Lane::ALL.len();

    /// Shares a total of at least [`Self::MIN_TOTAL`] out by the lanes' policies. Each lane gets at least one call.
    #[must_use]
    pub fn from_total(total: usize) -> Self {
        let mut limits = [1; Lane::ALL.len()];
        let mut left = total.saturating_sub(Self::MIN_TOTAL);
        // The smallest shares first: where a total is too small for every share, the larger ones lose.
        let mut lanes = Lane::ALL.map(|lane| (lane, lane.policy().share));
        lanes.sort_by_key(|(_, share)| match share {
            LaneShare::OneIn(part) => std::cmp::Reverse(*part),
            LaneShare::Rest => std::cmp::Reverse(0),
        });
        for (lane, share) in lanes {
            let more = match share {
                LaneShare::OneIn(part) => (total / part).saturating_sub(1).min(left),
                LaneShare::Rest => left,
            };
            limits[lane.index()] += more;
            left -= more;
        }
        Self(limits)
    }
}

/// An engine with a bounded number of reads in flight. Who finds no room before the deadline is refused.
#[derive(Debug)]
pub struct Bulkhead<E> {
    inner: E,
    limits: LaneLimits,
    permits: [Semaphore; Lane::ALL.len()],
}

impl<E: Engine> Bulkhead<E> {
    /// Bounds `inner`.
    pub fn new(inner: E, limits: LaneLimits) -> Self {
        let lanes = limits.0.map(Semaphore::new);
        Self { inner, limits, permits: lanes }
    }

    /// The engine whose calls are bounded.
    pub fn inner(&self) -> &E {
        &self.inner
    }

    /// How many calls a lane may have in flight.
    pub fn limit(&self, lane: Lane) -> usize {
        self.limits.0[lane.index()]
    }

    /// How many it has.
    pub fn in_flight(&self, lane: Lane) -> usize {
        self.limit(lane).saturating_sub(self.permits[lane.index()].available_permits())
    }

    async fn acquire(&self, call: Call) -> Result<SemaphorePermit<'_>, StoreError> {
        let full = || {
            StoreError::new(
                FailureKind::Overloaded,
                format!("no room for another {} call", call.lane.as_str()),
            )
        };
        let lane = &self.permits[call.lane.index()];
        tokio::time::timeout_at(call.deadline.into(), lane.acquire())
            .await
            .map_err(|_| full())?
            .map_err(|_| full())
    }
}

impl<E: Engine> Engine for Bulkhead<E> {
    async fn query(&self, call: Call, statement: Statement) -> Result<Rows, StoreError> {
        let _room = self.acquire(call).await?;
        self.inner.query(call, statement).await
    }

    /// Writes need no room of a lane: they wait for their turn elsewhere, and one call is under way at a time. A lane whose
    /// reads hang must not hold them up.
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
        assert_eq!(LaneLimits::from_total(64), LaneLimits([20, 16, 8, 4, 8, 4, 4]));
    }
}
