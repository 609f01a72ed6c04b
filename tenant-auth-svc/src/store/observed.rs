//! Tells how the database hop fares: one event per failed call, and counts.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use super::engine::{Engine, Rows, Statement};
use crate::domain::store::{Call, FailureKind, StoreError};

/// An engine whose calls are counted and whose failures are logged.
#[derive(Debug)]
pub struct Observed<E> {
    inner: E,
    counts: Counts,
}

/// What has happened so far.
#[derive(Debug, Default)]
pub struct Counts {
    calls: AtomicU64,
    failures: AtomicU64,
}

impl Counts {
    /// Calls that came to an end.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Those of them that failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

impl<E: Engine> Observed<E> {
    /// Observes `inner`.
    pub fn new(inner: E) -> Self {
        Self {
            inner,
            counts: Counts::default(),
        }
    }

    /// What has happened so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    async fn observe<T>(
        &self,
        call: Call,
        operation: &'static str,
        run: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let started = Instant::now();
        let outcome = run.await;
        self.counts.calls.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = &outcome {
            self.counts.failures.fetch_add(1, Ordering::Relaxed);
            report(call, operation, started, error);
        }
        outcome
    }
}

fn report(call: Call, operation: &'static str, started: Instant, error: &StoreError) {
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (lane, kind) = (call.lane.as_str(), error.kind.as_str());
    let message = error.message.as_str();
    match error.kind {
        // The configuration is at fault, and nothing gets better by itself.
        FailureKind::Denied | FailureKind::Misplaced | FailureKind::Broken => {
            tracing::error!(
                lane,
                operation,
                kind,
                message,
                elapsed_ms,
                "database call failed"
            );
        }
        // A repeated write finds its own first run; whoever sent it decides what that means.
        FailureKind::Conflict => {
            tracing::debug!(
                lane,
                operation,
                kind,
                message,
                elapsed_ms,
                "database call failed"
            );
        }
        FailureKind::Unreachable
        | FailureKind::TimedOut
        | FailureKind::Throttled
        | FailureKind::Busy
        | FailureKind::Garbled
        | FailureKind::Overloaded => {
            tracing::warn!(
                lane,
                operation,
                kind,
                message,
                elapsed_ms,
                "database call failed"
            );
        }
    }
}

impl<E: Engine> Engine for Observed<E> {
    async fn query(&self, call: Call, statement: Statement) -> Result<Rows, StoreError> {
        self.observe(call, "query", self.inner.query(call, statement))
            .await
    }

    async fn transaction(
        &self,
        call: Call,
        statements: Vec<Statement>,
    ) -> Result<Vec<Rows>, StoreError> {
        self.observe(
            call,
            "transaction",
            self.inner.transaction(call, statements),
        )
        .await
    }
}
