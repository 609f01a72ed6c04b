//! Bounds the calls in flight, with an allowance for each lane.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::engine::{Engine, Rows, Statement};
use crate::domain::store::{Call, FailureKind, Lane, StoreError};

/// How many calls each lane may have in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowances {
    validation: usize,
    admin: usize,
    maintenance: usize,
}

impl Allowances {
    /// The least that can be shared out: one call per lane.
    pub const MIN_TOTAL: usize = Lane::ALL.len();

    /// Shares a total of at least [`Self::MIN_TOTAL`] out: three quarters for validation, a sixteenth (but at least
    /// one call) for maintenance, the rest for administration.
    #[must_use]
    pub fn of_total(total: usize) -> Self {
        let total = total.max(Self::MIN_TOTAL);
        let maintenance = (total / 16).max(1);
        let validation = (total * 3 / 4).clamp(1, total - maintenance - 1);
        Self { validation, admin: total - maintenance - validation, maintenance }
    }

    fn of(&self, lane: Lane) -> usize {
        match lane {
            Lane::Validation => self.validation,
            Lane::Admin => self.admin,
            Lane::Maintenance => self.maintenance,
        }
    }
}

/// An engine with a bounded number of calls in flight. Who finds no room before the deadline is refused.
#[derive(Debug)]
pub struct Bounded<E> {
    inner: E,
    lanes: [Arc<Semaphore>; Lane::ALL.len()],
}

impl<E: Engine> Bounded<E> {
    /// Bounds `inner`.
    pub fn new(inner: E, allowances: Allowances) -> Self {
        let lanes = Lane::ALL.map(|lane| Arc::new(Semaphore::new(allowances.of(lane))));
        Self { inner, lanes }
    }

    async fn room(&self, call: Call) -> Result<SemaphorePermit<'_>, StoreError> {
        let full = || {
            StoreError::new(
                FailureKind::Overloaded,
                format!("no room for another {} call", call.lane.as_str()),
            )
        };
        let lane = match call.lane {
            Lane::Validation => &self.lanes[0],
            Lane::Admin => &self.lanes[1],
            Lane::Maintenance => &self.lanes[2],
        };
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

    async fn transaction(&self, call: Call, statements: Vec<Statement>) -> Result<Vec<Rows>, StoreError> {
        let _room = self.room(call).await?;
        self.inner.transaction(call, statements).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_add_up_and_starve_nobody() {
        for total in 0..200 {
            let shares = Allowances::of_total(total);
            let each = Lane::ALL.map(|lane| shares.of(lane));
            assert_eq!(each.iter().sum::<usize>(), total.max(3), "{total}");
            assert!(each.iter().all(|share| *share >= 1), "{total}: {each:?}");
        }
        let default = Allowances::of_total(64);
        assert_eq!(default, Allowances { validation: 48, admin: 12, maintenance: 4 });
    }
}
