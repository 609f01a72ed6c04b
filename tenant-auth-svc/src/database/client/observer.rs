//! Tells how the database hop fares: an event per failed call, how the last one went, how long each took, and a span
//! where its request is traced.

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

/// An engine whose failures are logged, and whose state can be watched.
#[derive(Debug)]
pub struct Observing<E> {
    inner: E,
    clock: SharedClock,
    /// Of reads and of writes: the one says nothing about the other.
    conditions: [watch::Sender<Option<Condition>>; Operation::ALL.len()],
    latencies: DurationHistograms,
    /// Of reads and of writes, by kind.
    failures: Counts,
}

impl<E: Engine> Observing<E> {
    /// Observes `inner`.
    pub fn new(inner: E, clock: SharedClock) -> Self {
        let took = DurationHistograms::new(Lane::ALL.len() * OUTCOMES_PER_LANE);
        let failures = Counts::new(Operation::ALL.len() * FailureKind::ALL.len());
        Self {
            inner,
            clock,
            conditions: Operation::ALL.map(|_| watch::Sender::new(None)),
            latencies: took,
            failures,
        }
    }

    /// The engine that is observed.
    pub fn inner(&self) -> &E {
        &self.inner
    }

    /// How long calls of a lane took that failed in a way, or did not.
    pub fn latency(&self, lane: Lane, failure: Option<FailureKind>) -> Distribution {
        self.latencies.read(latency_index(lane, failure))
    }

    /// How many reads, or writes, failed in a way.
    pub fn failure_count(&self, operation: Operation, kind: FailureKind) -> u64 {
        self.failures.get(failure_index(operation, kind))
    }

    /// How the database fared the last time it was asked to read, or to write; `None` before the first time.
    pub fn condition(&self, operation: Operation) -> Option<Condition> {
        *self.conditions[operation as usize].borrow()
    }

    /// The same, to be told when it changes.
    pub fn watch(&self, operation: Operation) -> watch::Receiver<Option<Condition>> {
        self.conditions[operation as usize].subscribe()
    }

    /// Sees to what a call leaves behind; `failure` tells how it failed.
    async fn observe<T>(
        &self,
        call: Call,
        operation: Operation,
        run: impl Future<Output = T> + Send,
        failure: impl Fn(&T) -> Option<&StoreError>,
    ) -> T {
        let started = Instant::now();
        let name = match operation {
            Operation::Read => QUERY_SPAN,
            Operation::Write => TRANSACTION_SPAN,
        };
        let span = spans::start_child_span(name);
        let outcome = run.await;
        let error = failure(&outcome);
        if let Some(error) = error {
            log_failure(call, name, started, error);
        }
        let kind = error.map(|error| error.kind);
        let operation = kind.map_or(operation, |kind| kind.affected_operation(operation));
        self.latencies.record(latency_index(call.lane, kind), started.elapsed());
        if let Some(kind) = kind {
            self.failures.add(failure_index(operation, kind), 1);
        }
        if let Some(span) = span {
            annotate_span(span, call, kind);
        }
        // A call that never left tells nothing, and a refusal by the schema is an answer.
        if let Some(works) = call.database_responds(kind) {
            self.record_condition(call, operation, kind.filter(|_| !works));
        }
        outcome
    }

    fn record_condition(&self, call: Call, operation: Operation, failure: Option<FailureKind>) {
        let speaks_for_all = match (operation, call.lane) {
            (Operation::Write, _) | (Operation::Read, Lane::Known | Lane::Unknown | Lane::Feed) => true,
            // A long listing that takes too long is no sign that lookups do.
            (Operation::Read, Lane::Sessions | Lane::Usage | Lane::Admin | Lane::Maintenance) => false,
        };
        self.conditions[operation as usize].send_if_modified(|last| {
            let is_known_to_work = last.is_some_and(|last| last.is_healthy());
            if !speaks_for_all && failure.is_some() && is_known_to_work {
                return false;
            }
            let next = Condition::after_call(*last, failure, Moment::now(&self.clock));
            let goes_on = next.is_unchanged_since(*last);
            *last = Some(next);
            !goes_on
        });
    }
}

const QUERY_SPAN: &str = "database query";
const TRANSACTION_SPAN: &str = "database transaction";

fn latency_index(lane: Lane, failure: Option<FailureKind>) -> usize {
    lane as usize * OUTCOMES_PER_LANE + failure.map_or(0, |kind| 1 + kind as usize)
}

fn failure_index(operation: Operation, kind: FailureKind) -> usize {
    operation as usize * FailureKind::ALL.len() + kind as usize
}

/// What is said is ours alone: neither a statement nor its arguments.
fn annotate_span(mut span: spans::ChildSpan, call: Call, failure: Option<FailureKind>) {
    span.set_attribute("db.system.name", "sqlite");
    span.set_attribute("tenant_auth.lane", call.lane.as_str());
    span.set_attribute("tenant_auth.outcome", failure.map_or("ok", FailureKind::as_str));
    if let Some(kind) = failure {
        span.set_error(kind.as_str());
    }
}

fn log_failure(call: Call, operation: &'static str, started: Instant, error: &StoreError) {
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (lane, kind) = (call.lane.as_str(), error.kind.as_str());
    let (kind_of, error) = (error.kind, error.message.as_str());
    match kind_of {
        // The configuration is at fault, and nothing gets better by itself.
        FailureKind::Denied
        | FailureKind::Blocked
        | FailureKind::ReadOnly
        | FailureKind::DiskFull
        | FailureKind::SchemaMissing
        | FailureKind::Internal
        | FailureKind::PepperMissing => {
            tracing::error!(lane, operation, kind, error, elapsed_ms, "database call failed");
        }
        // A repeated write finds its own first run; whoever sent it decides what that means.
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
        | FailureKind::TooManyGuesses
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
