//! The database client: an engine and the decorators around it, outermost first.
//!
//! Writes are queued; reads go to the read replica if it has a URL of its own; transient failures are retried; the circuit breaker rejects calls while the database does not
//! respond; each call that is sent is observed; the number of concurrent reads is limited; and a timeout is not
//! attributed to the database if this process was lagging itself.

pub mod breaker;
pub mod bulkhead;
pub mod lag_detector;
pub mod observer;
pub mod read_router;
pub mod retry;
pub mod write_queue;

use std::{iter, sync::Arc, time::Duration};

use self::{
    breaker::Breaker,
    bulkhead::{Bulkhead, LaneLimits},
    lag_detector::LagDetector,
    observer::Observing,
    read_router::ReadRouter,
    retry::Retrying,
    write_queue::WriteQueue,
};
use super::{
    backend::Backend,
    engine::{Engine, Rows, Statement, Transaction, TransactionResult},
    hrana::{RemoteEngine, RowCounts},
    sql,
};
use crate::{
    domain::{
        clock::SharedClock,
        known_database::{KnownDatabase, read_route::ReadRoute, untrusted_error},
        store::{Call, LaneTimeouts, StoreError},
    },
    instruments::lag::SchedulerLag,
};

type BulkheadEngine = Bulkhead<LagDetector<Backend>>;
type ObservingEngine = Observing<BulkheadEngine>;
type BreakerEngine = Breaker<ObservingEngine>;
/// The engine with retries and everything below them.
pub type RetryingEngine = Retrying<BreakerEngine>;

/// The engine that chooses the server of a read. A read replica is tried once, without retries: the primary is the second
/// attempt.
pub type RoutingEngine = ReadRouter<RetryingEngine, BreakerEngine>;

/// The database as the service uses it. Cheap to clone; clones share all state.
#[derive(Clone, Debug)]
pub struct DatabaseClient {
    write_queue: WriteQueue<RoutingEngine>,
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
    /// Creates a client of `backend`, and of its read replica if that has a URL of its own.
    #[must_use]
    pub fn new(
        backend: Backend,
        read_replica: Option<RemoteEngine>,
        config: ClientConfig,
        clock: &SharedClock,
    ) -> Self {
        let known_database = Arc::new(match &read_replica {
            None => KnownDatabase::new(clock.clone()),
            Some(engine) => {
                let primary = backend.replication_index().cloned().unwrap_or_default();
                let indexes = [Arc::clone(engine.replication_index()), primary];
                KnownDatabase::with_read_replica(clock.clone(), ReadRoute::new(indexes))
            }
        });
        let lag = Arc::<SchedulerLag>::default();
        let guarded = |backend: Backend| {
            let server = backend.server_address();
            let lag_detector = LagDetector::new(backend, Arc::clone(&lag));
            let observing = Observing::new(Bulkhead::new(lag_detector, config.lane_limits), clock.clone())
                .with_server(server);
            Breaker::new(observing, clock.clone())
        };
        let primary = Retrying::new(guarded(backend), config.lookup_timeouts);
        let read_replica = read_replica.map(|engine| guarded(Backend::Remote(engine)));
        let routing = ReadRouter::new(
            primary,
            read_replica,
            Arc::clone(&known_database),
            config.lookup_timeouts,
            clock.clone(),
        );
        Self { write_queue: WriteQueue::new(routing, config.write_timeout), known_database }
    }

    /// The identity of the database, and whether it is trusted.
    #[must_use]
    pub fn known_database(&self) -> &Arc<KnownDatabase> {
        &self.known_database
    }

    /// The queue of writes. As an engine it writes even to an untrusted database: that is needed to accept one.
    #[must_use]
    pub fn write_queue(&self) -> &WriteQueue<RoutingEngine> {
        &self.write_queue
    }

    /// The choice between the primary and its read replica.
    #[must_use]
    pub fn read_router(&self) -> &RoutingEngine {
        self.write_queue.inner()
    }

    /// The layer of retries. This one and those below are the primary's.
    #[must_use]
    pub fn retry_layer(&self) -> &RetryingEngine {
        self.read_router().primary()
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

    /// Returns the observers of the primary's calls and, if it has a URL of its own, of the read replica's.
    pub fn observers(&self) -> impl Iterator<Item = &ObservingEngine> + Clone {
        let read_replica = self.read_router().read_replica().map(Breaker::inner);
        iter::once(self.observer()).chain(read_replica)
    }

    /// Returns the rows that the remote servers have counted.
    pub fn row_counts(&self) -> impl Iterator<Item = &RowCounts> + Clone {
        self.observers().filter_map(|observer| observer.inner().inner().inner().row_counts())
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
