//! The way to the database: an engine and the decorators around it, outermost first.
//!
//! Writes take turns; what fails is tried once more; calls that do not get through are not sent; each call that leaves is
//! observed; the number of reads in flight is bounded; and one that ran out of time is not held against the database if this
//! process was late itself.

pub mod breaker;
pub mod bulkhead;
pub mod lag_detector;
pub mod observer;
pub mod retry;
pub mod write_queue;

use std::{sync::Arc, time::Duration};

use self::{
    breaker::Breaker,
    bulkhead::{Bulkhead, LaneLimits},
    lag_detector::LagDetector,
    observer::Observing,
    retry::Retrying,
    write_queue::WriteQueue,
};
use super::{
    backend::Backend,
    engine::{Engine, Rows, Statement, Transaction, TransactionResult},
    sql,
};
use crate::{
    domain::{
        clock::SharedClock,
        known_database::{KnownDatabase, untrusted_error},
        store::{Call, LaneTimeouts, StoreError},
    },
    instruments::lag::SchedulerLag,
};

type BulkheadEngine = Bulkhead<LagDetector<Backend>>;
type ObservingEngine = Observing<BulkheadEngine>;
type BreakerEngine = Breaker<ObservingEngine>;
/// What is tried once more, breaker and all.
pub type RetryingEngine = Retrying<BreakerEngine>;

/// The database as the service uses it. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct DatabaseClient {
    write_queue: WriteQueue<RetryingEngine>,
    known_database: Arc<KnownDatabase>,
}

/// With how much patience a database is used.
#[derive(Clone, Copy, Debug)]
pub struct ClientConfig {
    /// Of a validation's reads.
    pub lookup_timeouts: LaneTimeouts,
    /// For how long a write that was sent is waited for.
    pub write_timeout: Duration,
    /// How many reads may be in flight.
    pub lane_limits: LaneLimits,
}

impl DatabaseClient {
    /// A client of `backend`.
    #[must_use]
    pub fn new(backend: Backend, config: ClientConfig, clock: &SharedClock) -> Self {
        let server = backend.server_address();
        let calls = LagDetector::new(backend, Arc::default());
        let observed =
            Observing::new(Bulkhead::new(calls, config.lane_limits), clock.clone()).with_server(server);
        let attempts = Retrying::new(Breaker::new(observed, clock.clone()), config.lookup_timeouts);
        let writes = WriteQueue::new(attempts, config.write_timeout);
        Self { write_queue: writes, known_database: Arc::new(KnownDatabase::new(clock.clone())) }
    }

    /// Which database it is, and whether it is believed.
    #[must_use]
    pub fn known_database(&self) -> &Arc<KnownDatabase> {
        &self.known_database
    }

    /// What waits to be written. As an engine it writes whatever is thought of the database: to accept it.
    #[must_use]
    pub fn write_queue(&self) -> &WriteQueue<RetryingEngine> {
        &self.write_queue
    }

    /// What is tried once more.
    #[must_use]
    pub fn retry_layer(&self) -> &RetryingEngine {
        self.write_queue.inner()
    }

    /// Which calls are let through.
    #[must_use]
    pub fn breaker(&self) -> &BreakerEngine {
        self.retry_layer().inner()
    }

    /// How calls end.
    #[must_use]
    pub fn observer(&self) -> &ObservingEngine {
        self.breaker().inner()
    }

    /// How many reads are in flight.
    #[must_use]
    pub fn bulkhead(&self) -> &BulkheadEngine {
        self.observer().inner()
    }

    /// How late this process is.
    #[must_use]
    pub fn lag(&self) -> &Arc<SchedulerLag> {
        self.bulkhead().inner().lag()
    }
}

impl Engine for DatabaseClient {
    async fn query(&self, call: Call, statement: Statement) -> Result<Rows, StoreError> {
        self.write_queue.query(call, statement).await
    }

    /// Nothing is written to a database that is not believed: what is acknowledged would not be in the known one. That it has
    /// become another one since the log was last read, the transaction itself finds out.
    async fn transactions(&self, call: Call, transactions: Vec<Transaction>) -> Vec<TransactionResult> {
        if self.known_database.is_distrusted() {
            return transactions.iter().map(|_| Err(untrusted_error())).collect();
        }
        let Some(guard) = sql::identity::guard_statement(&self.known_database.trust()) else {
            return self.write_queue.transactions(call, transactions).await;
        };
        let guarded = |mut transaction: Transaction| {
            transaction.insert(0, guard.clone());
            transaction
        };
        let outcomes =
            self.write_queue.transactions(call, transactions.into_iter().map(guarded).collect()).await;
        let without_guard = |mut rows: Vec<Rows>| {
            rows.drain(..rows.len().min(1));
            rows
        };
        outcomes.into_iter().map(|outcome| outcome.map(without_guard)).collect()
    }
}
