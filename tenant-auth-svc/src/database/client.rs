//! The way to the database: an engine and the decorators around it, outermost first.
//!
//! Writes take turns; what fails is tried once more; calls that do not get through are not sent; each call that leaves is
//! observed; the number of reads in flight is bounded; and one that ran out of time is not held against the database if this
//! process was late itself.

pub mod breaker;
pub mod bulkhead;
pub mod lag_aware;
pub mod observer;
pub mod retry;
pub mod write_queue;

use std::{sync::Arc, time::Duration};

use self::{
    breaker::Breaker,
    bulkhead::{Bounded, LaneLimits},
    lag_aware::LagAware,
    observer::Observed,
    retry::Retried,
    write_queue::WriteQueue,
};
use super::{
    backend::Backend,
    engine::{Engine, Outcome, Rows, Statement, Transaction},
    sql,
};
use crate::{
    domain::{
        clock::SharedClock,
        known::{KnownDatabase, untrusted},
        store::{Call, LaneTimeouts, StoreError},
    },
    instruments::lag::SchedulerLag,
};

type Calls = Bounded<LagAware<Backend>>;
type Watched = Observed<Calls>;
type Guarded = Breaker<Watched>;
/// What is tried once more, breaker and all.
pub type Attempts = Retried<Guarded>;

/// The database as the service uses it. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct DatabaseClient {
    writes: WriteQueue<Attempts>,
    known: Arc<KnownDatabase>,
}

/// With how much patience a database is used.
#[derive(Clone, Copy, Debug)]
pub struct ClientConfig {
    /// Of a validation's reads.
    pub timeouts: LaneTimeouts,
    /// For how long a write that was sent is waited for.
    pub write_timeout: Duration,
    /// How many reads may be in flight.
    pub limits: LaneLimits,
}

impl DatabaseClient {
    /// A client of `backend`.
    #[must_use]
    pub fn new(backend: Backend, config: ClientConfig, clock: &SharedClock) -> Self {
        let calls = LagAware::new(backend, Arc::default());
        let observed = Observed::new(Bounded::new(calls, config.limits), clock.clone());
        let attempts = Retried::new(Breaker::new(observed, clock.clone()), config.timeouts);
        let writes = WriteQueue::new(attempts, config.write_timeout);
        Self { writes, known: Arc::new(KnownDatabase::new(clock.clone())) }
    }

    /// Which database it is, and whether it is believed.
    #[must_use]
    pub fn known(&self) -> &Arc<KnownDatabase> {
        &self.known
    }

    /// What waits to be written. As an engine it writes whatever is thought of the database: to accept it.
    #[must_use]
    pub fn writes(&self) -> &WriteQueue<Attempts> {
        &self.writes
    }

    /// What is tried once more.
    #[must_use]
    pub fn attempts(&self) -> &Attempts {
        self.writes.inner()
    }

    /// Which calls are let through.
    #[must_use]
    pub fn breaker(&self) -> &Guarded {
        self.attempts().inner()
    }

    /// How calls end.
    #[must_use]
    pub fn observed(&self) -> &Watched {
        self.breaker().inner()
    }

    /// How many reads are in flight.
    #[must_use]
    pub fn bounded(&self) -> &Calls {
        self.observed().inner()
    }

    /// How late this process is.
    #[must_use]
    pub fn lag(&self) -> &Arc<SchedulerLag> {
        self.bounded().inner().lag()
    }
}

impl Engine for DatabaseClient {
    async fn query(&self, call: Call, statement: Statement) -> Result<Rows, StoreError> {
        self.writes.query(call, statement).await
    }

    /// Nothing is written to a database that is not believed: what is acknowledged would not be in the known one. That it has
    /// become another one since the log was last read, the transaction itself finds out.
    async fn transactions(&self, call: Call, transactions: Vec<Transaction>) -> Vec<Outcome> {
        if self.known.is_doubted() {
            return transactions.iter().map(|_| Err(untrusted())).collect();
        }
        let Some(guard) = sql::identity::guard(&self.known.trust()) else {
            return self.writes.transactions(call, transactions).await;
        };
        let guarded = |mut transaction: Transaction| {
            transaction.insert(0, guard.clone());
            transaction
        };
        let outcomes = self.writes.transactions(call, transactions.into_iter().map(guarded).collect()).await;
        let without_guard = |mut rows: Vec<Rows>| {
            rows.drain(..rows.len().min(1));
            rows
        };
        outcomes.into_iter().map(|outcome| outcome.map(without_guard)).collect()
    }
}
