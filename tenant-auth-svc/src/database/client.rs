//! The database client: an engine and the decorators around it, outermost first.
//!
//! Writes are queued; transient failures are retried; the circuit breaker rejects calls while the database does not
//! respond; each call that is sent is observed; the number of concurrent reads is limited; and a timeout is not
//! attributed to the database if this process was lagging itself.

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
    hrana::RowCounts,
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
/// The engine with retries and everything below them.
pub type RetryingEngine = Retrying<BreakerEngine>;

/// The database as the service uses it. Cheap to clone; clones share all state.
#[derive(Clone, Debug)]
pub struct DatabaseClient {
    write_queue: WriteQueue<RetryingEngine>,
    known_database: Arc<KnownDatabase>,
}

/// Timeouts and limits of a database client.
#[derive(Clone, Copy, Debug)]
pub struct ClientConfig {
    /// Timeouts of a validation's reads.
    pub lookup_timeouts: LaneTimeouts,
    /// How long to wait for a write that was sent.
    pub write_timeout: Duration,
    /// Maximum number of concurrent reads per lane.
    pub lane_limits: LaneLimits,
}

impl DatabaseClient {
    /// Creates a client of `backend`.
    #[must_use]
    pub fn new(backend: Backend, config: ClientConfig, clock: &SharedClock) -> Self {
        let server = backend.server_address();
        let lag_detector = LagDetector::new(backend, Arc::default());
        let observing = Observing::new(Bulkhead::new(lag_detector, config.lane_limits), clock.clone())
            .with_server(server);
        let retrying = Retrying::new(Breaker::new(observing, clock.clone()), config.lookup_timeouts);
        let write_queue = WriteQueue::new(retrying, config.write_timeout);
        Self { write_queue, known_database: Arc::new(KnownDatabase::new(clock.clone())) }
    }

    /// The identity of the database, and whether it is trusted.
    #[must_use]
    pub fn known_database(&self) -> &Arc<KnownDatabase> {
        &self.known_database
    }

    /// The queue of writes. As an engine it writes even to an untrusted database: that is needed to accept one.
    #[must_use]
    pub fn write_queue(&self) -> &WriteQueue<RetryingEngine> {
        &self.write_queue
    }

    /// The layer of retries.
    #[must_use]
    pub fn retry_layer(&self) -> &RetryingEngine {
        self.write_queue.inner()
    }

    /// The circuit breaker.
    #[must_use]
    pub fn breaker(&self) -> &BreakerEngine {
        self.retry_layer().inner()
    }

    /// The observer of calls.
    #[must_use]
    pub fn observer(&self) -> &ObservingEngine {
        self.breaker().inner()
    }

    /// The limiter of concurrent reads.
    #[must_use]
    pub fn bulkhead(&self) -> &BulkheadEngine {
        self.observer().inner()
    }

    /// The scheduler lag of this process.
    #[must_use]
    pub fn lag(&self) -> &Arc<SchedulerLag> {
        self.bulkhead().inner().lag()
    }

    /// Returns the rows that a remote server has counted.
    #[must_use]
    pub fn row_counts(&self) -> Option<&RowCounts> {
        self.bulkhead().inner().inner().row_counts()
    }
}

impl Engine for DatabaseClient {
    async fn query(&self, call: Call, statement: Statement) -> Result<Rows, StoreError> {
        self.write_queue.query(call, statement).await
    }

    /// Rejects writes to an untrusted database: an acknowledged write would be missing in the known one. If the
    /// database has been replaced since the change log was last read, the guard statement makes the transaction fail.
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
