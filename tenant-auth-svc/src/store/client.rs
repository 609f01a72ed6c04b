//! The way to the database: an engine and the decorators around it, outermost first.
//!
//! Writes take turns; what fails is tried once more; calls that do not get through are not sent; each call that leaves is
//! observed; and the number of reads in flight is bounded.

use std::time::Duration;

use super::{
    backend::Backend,
    bounded::{Allowances, Bounded},
    breaker::Breaker,
    engine::{Engine, Outcome, Rows, Statement, Transaction},
    observed::Observed,
    retried::{Retried, Timing},
    write_queue::WriteQueue,
};
use crate::domain::{
    clock::SharedClock,
    store::{Call, StoreError},
};

type Calls = Bounded<Backend>;
type Watched = Observed<Calls>;
type Guarded = Breaker<Watched>;
type Attempts = Retried<Guarded>;

/// The database as the service uses it. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct DatabaseClient(WriteQueue<Attempts>);

/// With how much patience a database is used.
#[derive(Clone, Copy, Debug)]
pub struct ClientConfig {
    /// Of a validation's reads.
    pub timing: Timing,
    /// For how long a write that was sent is waited for.
    pub write_timeout: Duration,
    /// How many reads may be in flight.
    pub allowances: Allowances,
}

impl DatabaseClient {
    /// A client of `backend`.
    #[must_use]
    pub fn new(backend: Backend, config: ClientConfig, clock: &SharedClock) -> Self {
        let observed = Observed::new(Bounded::new(backend, config.allowances), clock.clone());
        let attempts = Retried::new(Breaker::new(observed, clock.clone()), config.timing);
        Self(WriteQueue::new(attempts, config.write_timeout))
    }

    /// What waits to be written.
    #[must_use]
    pub fn writes(&self) -> &WriteQueue<Attempts> {
        &self.0
    }

    /// What is tried once more.
    #[must_use]
    pub fn attempts(&self) -> &Attempts {
        self.0.inner()
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
}

impl Engine for DatabaseClient {
    async fn query(&self, call: Call, statement: Statement) -> Result<Rows, StoreError> {
        self.0.query(call, statement).await
    }

    async fn transactions(&self, call: Call, transactions: Vec<Transaction>) -> Vec<Outcome> {
        self.0.transactions(call, transactions).await
    }

    async fn transaction(&self, call: Call, statements: Transaction) -> Outcome {
        self.0.transaction(call, statements).await
    }
}
