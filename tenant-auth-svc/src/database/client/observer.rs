//! Observes the calls of the database client: logs failures, keeps the condition of reads and of writes, measures
//! latencies, and adds a span to traced requests.

use std::time::Instant;

use tokio::sync::watch;

use crate::{
    database::engine::{Engine, Rows, Statement, Transaction, TransactionResult, first_failure},
    domain::{
        clock::{Moment, SharedClock},
        condition::Condition,
        store::{Call, FailureKind, Lane, Operation, StoreError},
    },
    instruments::{
        counts::Counts,
        durations::{Distribution, DurationHistograms},
        spans,
    },
};

/// Success, and every kind of failure.
const OUTCOMES_PER_LANE: usize = 1 + FailureKind::ALL.len();

/// An engine whose failures are logged, and whose condition can be watched.
#[derive(Debug)]
pub struct Observing<E> {
    inner: E,
    clock: SharedClock,
    /// Of reads and of writes, separately: neither says anything about the other.
    conditions: [watch::Sender<Option<Condition>>; Operation::ALL.len()],
    latencies: DurationHistograms,
    server: Option<ServerAddress>,
    /// Of reads and of writes, by kind.
    failures: Counts,
}

impl<E: Engine> Observing<E> {
    /// Names the server of the database in spans.
    #[must_use]
    pub fn with_server(mut self, server: Option<ServerAddress>) -> Self {
        self.server = server;
        self
    }

    /// Observes `inner`.
    pub fn new(inner: E, clock: SharedClock) -> Self {
        let latencies = DurationHistograms::new(Operation::ALL.len() * Lane::ALL.len() * OUTCOMES_PER_LANE);
        let failures = Counts::new(Operation::ALL.len() * FailureKind::ALL.len());
        Self {
            inner,
            clock,
            conditions: Operation::ALL.map(|_| watch::Sender::new(None)),
            latencies,
            server: None,
            failures,
        }
    }

    /// The inner engine.
    pub fn inner(&self) -> &E {
        &self.inner
    }

    /// Latency of the calls of a lane that failed with `failure`, or succeeded, by what was requested.
    pub fn latency(&self, operation: Operation, lane: Lane, failure: Option<FailureKind>) -> Distribution {
        self.latencies.read(latency_index(operation, lane, failure))
    }

    /// How many reads, or writes, failed with a kind.
    pub fn failure_count(&self, operation: Operation, kind: FailureKind) -> u64 {
        self.failures.get(failure_index(operation, kind))
    }

    /// The outcome of the last read, or write; `None` before the first one.
    pub fn condition(&self, operation: Operation) -> Option<Condition> {
        *self.conditions[operation as usize].borrow()
    }

    /// Watches the condition of reads, or of writes.
    pub fn watch(&self, operation: Operation) -> watch::Receiver<Option<Condition>> {
        self.conditions[operation as usize].subscribe()
    }

    /// Runs a call and records its outcome; `failure` returns its error.
    async fn observe<T>(
        &self,
        call: Call,
        operation: Operation,
        run: impl Future<Output = T> + Send,
        failure: impl Fn(&T) -> Option<&StoreError>,
    ) -> T {
        let started = Instant::now();
        let (asked, name) = (operation, operation_name(operation));
        let span = spans::start_child_span(name);
        let outcome = run.await;
        let error = failure(&outcome);
        if let Some(error) = error {
            log_failure(call, name, started, error);
        }
        let kind = error.map(|error| error.kind);
        let operation = kind.map_or(operation, |kind| kind.affected_operation(operation));
        self.latencies.record(latency_index(asked, call.lane, kind), started.elapsed());
        if let Some(kind) = kind {
            self.failures.add(failure_index(operation, kind), 1);
        }
        if let Some(span) = span {
            annotate_span(span, call, name, self.server.as_ref(), kind);
        }
        // A call that was never sent says nothing, and a schema error is a response.
        if let Some(responds) = call.database_responds(kind) {
            self.record_condition(call, operation, kind.filter(|_| !responds));
        }
        outcome
    }

    fn record_condition(&self, call: Call, operation: Operation, failure: Option<FailureKind>) {
        let is_representative = match (operation, call.lane) {
            (Operation::Write, _) | (Operation::Read, Lane::Known | Lane::Unknown | Lane::Feed) => true,
            // A timeout of a long listing is no sign that lookups time out.
            (
                Operation::Read,
                Lane::Sessions | Lane::Usage | Lane::Limits | Lane::Admin | Lane::Maintenance,
            ) => false,
        };
        self.conditions[operation as usize].send_if_modified(|last| {
            let was_healthy = last.is_some_and(|last| last.is_healthy());
            if !is_representative && failure.is_some() && was_healthy {
                return false;
            }
            let next = Condition::after_call(*last, failure, Moment::now(&self.clock));
            let is_unchanged = next.is_unchanged_since(*last);
            *last = Some(next);
            !is_unchanged
        });
    }
}

/// As OpenTelemetry names what kind of database it is.
pub const DATABASE_SYSTEM: &str = "sqlite";

/// Where a remote database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    /// Its host.
    pub host: String,
    /// Its port, if that is known.
    pub port: Option<u16>,
}

/// What a call is named in spans, logs and metrics.
#[must_use]
pub fn operation_name(operation: Operation) -> &'static str {
    match operation {
        Operation::Read => "query",
        Operation::Write => "transaction",
    }
}

fn latency_index(operation: Operation, lane: Lane, failure: Option<FailureKind>) -> usize {
    let lane = operation as usize * Lane::ALL.len() + lane as usize;
    lane * OUTCOMES_PER_LANE + failure.map_or(0, |kind| 1 + kind as usize)
}

fn failure_index(operation: Operation, kind: FailureKind) -> usize {
    operation as usize * FailureKind::ALL.len() + kind as usize
}

/// Neither a statement nor its arguments.
fn annotate_span(
    mut span: spans::ChildSpan,
    call: Call,
    operation: &'static str,
    server: Option<&ServerAddress>,
    failure: Option<FailureKind>,
) {
    span.set_attribute("db.system.name", DATABASE_SYSTEM);
    span.set_attribute("db.operation.name", operation);
    if let Some(server) = server {
        span.set_attribute("server.address", server.host.clone());
        if let Some(port) = server.port {
            span.set_attribute("server.port", i64::from(port));
        }
    }
    span.set_attribute("tenant_auth.lane", call.lane.as_str());
    if let Some(kind) = failure {
        span.set_attribute("error.type", kind.as_str());
        span.set_error(kind.as_str());
    }
}

fn log_failure(call: Call, operation: &'static str, started: Instant, error: &StoreError) {
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (lane, kind) = (call.lane.as_str(), error.kind.as_str());
    let (kind_of, error) = (error.kind, error.message.as_str());
    match kind_of {
        // The configuration or the database needs a fix; it does not recover by itself.
        FailureKind::Denied
        | FailureKind::Blocked
        | FailureKind::ReadOnly
        | FailureKind::DiskFull
        | FailureKind::SchemaMissing
        | FailureKind::Internal
        | FailureKind::PepperMissing => {
            tracing::error!(lane, operation, kind, error, elapsed_ms, "database call failed");
        }
        // A repeated write conflicts with its own first run; the caller decides what that means.
        FailureKind::Conflict => {
            tracing::debug!(lane, operation, kind, error, elapsed_ms, "database call failed");
        }
        FailureKind::Unreachable
        | FailureKind::TimedOut
        | FailureKind::Throttled
        | FailureKind::Busy
        | FailureKind::InvalidResponse
        | FailureKind::CircuitOpen
        | FailureKind::Overloaded
        | FailureKind::Untrusted
        | FailureKind::Starved
        | FailureKind::TooManyUnknownLookups
        | FailureKind::Lagging => {
            tracing::warn!(lane, operation, kind, error, elapsed_ms, "database call failed");
        }
    }
}

impl<E: Engine> Engine for Observing<E> {
    async fn query(&self, call: Call, statement: Statement) -> Result<Rows, StoreError> {
        let run = self.inner.query(call, statement);
        self.observe(call, Operation::Read, run, |outcome| outcome.as_ref().err()).await
    }

    async fn transactions(&self, call: Call, transactions: Vec<Transaction>) -> Vec<TransactionResult> {
        let run = self.inner.transactions(call, transactions);
        self.observe(call, Operation::Write, run, |outcomes: &Vec<TransactionResult>| first_failure(outcomes))
            .await
    }
}
