//! Tells how the database hop fares: an event per failed call, how the last one went, how long each took, and a span
//! where its request is traced.

use std::time::Instant;

use tokio::sync::watch;

use super::engine::{Engine, Rows, Statement};
use crate::{
    domain::{
        clock::{Moment, SharedClock},
        condition::Condition,
        store::{Call, FailureKind, Lane, StoreError},
    },
    measure::{
        durations::{Distribution, Durations},
        spans,
    },
};

/// Success, and every kind of failure.
const OUTCOMES: usize = 1 + FailureKind::ALL.len();

/// An engine whose failures are logged, and whose state can be watched.
#[derive(Debug)]
pub struct Observed<E> {
    inner: E,
    clock: SharedClock,
    condition: watch::Sender<Option<Condition>>,
    took: Durations,
}

impl<E: Engine> Observed<E> {
    /// Observes `inner`.
    pub fn new(inner: E, clock: SharedClock) -> Self {
        let took = Durations::new(Lane::ALL.len() * OUTCOMES);
        Self { inner, clock, condition: watch::Sender::new(None), took }
    }

    /// The engine that is observed.
    pub fn inner(&self) -> &E {
        &self.inner
    }

    /// How long calls of a lane took that failed in a way, or did not.
    pub fn took(&self, lane: Lane, failure: Option<FailureKind>) -> Distribution {
        self.took.read(series(lane, failure))
    }

    /// How the database fared the last time it was asked; `None` before the first time.
    pub fn condition(&self) -> Option<Condition> {
        *self.condition.borrow()
    }

    /// The same, to be told when it changes.
    pub fn watch(&self) -> watch::Receiver<Option<Condition>> {
        self.condition.subscribe()
    }

    async fn observe<T>(
        &self,
        call: Call,
        operation: &'static str,
        run: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let started = Instant::now();
        let span = spans::begin(operation);
        let outcome = run.await;
        if let Err(error) = &outcome {
            report(call, operation, started, error);
        }
        let kind = outcome.as_ref().err().map(|error| error.kind);
        self.took.note(series(call.lane, kind), started.elapsed());
        if let Some(span) = span {
            describe(span, call, kind);
        }
        // A call that never left tells nothing, and a refusal by the schema is an answer.
        if let Some(works) = call.tells(kind) {
            self.note(kind.filter(|_| !works));
        }
        outcome
    }

    fn note(&self, failure: Option<FailureKind>) {
        self.condition.send_if_modified(|last| {
            let next = Condition::after(*last, failure, Moment::now(&self.clock));
            last.replace(next) != Some(next)
        });
    }
}

const QUERY: &str = "database query";
const TRANSACTION: &str = "database transaction";

fn series(lane: Lane, failure: Option<FailureKind>) -> usize {
    lane as usize * OUTCOMES + failure.map_or(0, |kind| 1 + kind as usize)
}

/// What is said is ours alone: neither a statement nor its arguments.
fn describe(mut span: spans::Below, call: Call, failure: Option<FailureKind>) {
    span.say("db.system.name", "sqlite");
    span.say("tenant_auth.lane", call.lane.as_str());
    span.say("tenant_auth.outcome", failure.map_or("ok", FailureKind::as_str));
    if let Some(kind) = failure {
        span.failed(kind.as_str());
    }
}

fn report(call: Call, operation: &'static str, started: Instant, error: &StoreError) {
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (lane, kind) = (call.lane.as_str(), error.kind.as_str());
    let message = error.message.as_str();
    match error.kind {
        // The configuration is at fault, and nothing gets better by itself.
        FailureKind::Denied | FailureKind::Misplaced | FailureKind::Broken | FailureKind::PepperMissing => {
            tracing::error!(lane, operation, kind, message, elapsed_ms, "database call failed");
        }
        // A repeated write finds its own first run; whoever sent it decides what that means.
        FailureKind::Conflict => {
            tracing::debug!(lane, operation, kind, message, elapsed_ms, "database call failed");
        }
        FailureKind::Unreachable
        | FailureKind::TimedOut
        | FailureKind::Throttled
        | FailureKind::Busy
        | FailureKind::Garbled
        | FailureKind::CircuitOpen
        | FailureKind::Overloaded => {
            tracing::warn!(lane, operation, kind, message, elapsed_ms, "database call failed");
        }
    }
}

impl<E: Engine> Engine for Observed<E> {
    async fn query(&self, call: Call, statement: Statement) -> Result<Rows, StoreError> {
        self.observe(call, QUERY, self.inner.query(call, statement)).await
    }

    async fn transaction(&self, call: Call, statements: Vec<Statement>) -> Result<Vec<Rows>, StoreError> {
        self.observe(call, TRANSACTION, self.inner.transaction(call, statements)).await
    }
}
