//! Bounds the reads in flight, with an allowance for each lane.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    database::engine::{Engine, Outcome, Rows, Statement, Transaction},
    domain::store::{Call, FailureKind, Lane, StoreError},
};

/// How many reads each lane may have in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowances([usize; Lane::ALL.len()]);

impl Allowances {
    /// The least that can be shared out: one call per lane.
    pub const MIN_TOTAL: usize = Lane::ALL.len();

    /// Shares a total of at least [`Self::MIN_TOTAL`] out: an eighth each for administration and for sessions, a
    /// sixteenth each for usage, for the change feed and for maintenance, a quarter for keys that are not in memory,
    /// and the rest, about a third, for those that are. Each lane gets at least one call.
    #[must_use]
    pub fn of_total(total: usize) -> Self {
        let mut shares = [0; Lane::ALL.len()];
        let mut left = total.max(Self::MIN_TOTAL);
        // Each lane leaves one call for every lane after it.
        for (after, (lane, part)) in [
            (Lane::Feed, 16),
            (Lane::Usage, 16),
            (Lane::Maintenance, 16),
            (Lane::Admin, 8),
            (Lane::Sessions, 8),
            (Lane::Unknown, 4),
        ]
        .into_iter()
        .enumerate()
        .map(|(index, share)| (Lane::ALL.len() - 1 - index, share))
        {
            let share = (total / part).clamp(1, left - after);
            shares[position(lane)] = share;
            left -= share;
        }
        shares[position(Lane::Known)] = left;
        Self(shares)
    }
}

/// A lane's place in an array over all lanes.
fn position(lane: Lane) -> usize {
    match lane {
        Lane::Known => 0,
        Lane::Unknown => 1,
        Lane::Sessions => 2,
        Lane::Usage => 3,
        Lane::Admin => 4,
        Lane::Feed => 5,
        Lane::Maintenance => 6,
    }
}

/// An engine with a bounded number of reads in flight. Who finds no room before the deadline is refused.
#[derive(Debug)]
pub struct Bounded<E> {
    inner: E,
    allowances: Allowances,
    lanes: [Semaphore; Lane::ALL.len()],
}

impl<E: Engine> Bounded<E> {
    /// Bounds `inner`.
    pub fn new(inner: E, allowances: Allowances) -> Self {
        let lanes = allowances.0.map(Semaphore::new);
        Self { inner, allowances, lanes }
    }

    /// The engine whose calls are bounded.
    pub fn inner(&self) -> &E {
        &self.inner
    }

    /// How many calls a lane may have in flight.
    pub fn allowance(&self, lane: Lane) -> usize {
        self.allowances.0[position(lane)]
    }

    /// How many it has.
    pub fn in_flight(&self, lane: Lane) -> usize {
        self.allowance(lane).saturating_sub(self.lanes[position(lane)].available_permits())
    }

    async fn room(&self, call: Call) -> Result<SemaphorePermit<'_>, StoreError> {
        let full = || {
            StoreError::new(
                FailureKind::Overloaded,
                format!("no room for another {} call", call.lane.as_str()),
            )
        };
        let lane = &self.lanes[position(call.lane)];
        tokio::time::timeout_at(call.deadline.into(), lane.acquire())
            .await
            .map_err(|_| full())?
            .map_err(|_| full())
    }
}

impl<E: Engine> Engine for Bounded<E> {
    async fn query(&self, call: Call, statement: Statement) -> Result<Rows, StoreError> {
        let _room = self.room(call).await?;
        self.inner.query(call, statement).await
    }

    /// Writes need no room of a lane: they wait for their turn elsewhere, and one call is under way at a time. A lane whose
    /// reads hang must not hold them up.
    async fn transactions(&self, call: Call, transactions: Vec<Transaction>) -> Vec<Outcome> {
        self.inner.transactions(call, transactions).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_add_up_and_starve_nobody() {
        for total in 0..200 {
            let Allowances(shares) = Allowances::of_total(total);
            assert_eq!(shares.iter().sum::<usize>(), total.max(Allowances::MIN_TOTAL), "{total}");
            assert!(shares.iter().all(|share| *share >= 1), "{total}: {shares:?}");
        }
        assert_eq!(Allowances::of_total(64), Allowances([20, 16, 8, 4, 8, 4, 4]));
        assert_eq!(Lane::ALL.map(position), [0, 1, 2, 3, 4, 5, 6]);
    }
}
