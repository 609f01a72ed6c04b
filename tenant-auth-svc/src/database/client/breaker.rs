//! Circuit breaker: stops calling a database that does not respond, and probes periodically whether it does again.
//!
//! Calls whose outcomes predict each other share a circuit. An open circuit rejects calls at once, so that the cache
//! can answer instead without a wait, and admits one call as a probe every half to one second. The first success
//! closes it.

mod circuit;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};

use self::circuit::CircuitState;
use crate::{
    database::engine::{Engine, Rows, Statement, Transaction, TransactionResult, first_failure},
    domain::{
        clock::SharedClock,
        store::{Call, Circuit, FailureKind, Lane, Operation, StoreError},
    },
};

/// An engine that is not called while it does not respond.
#[derive(Debug)]
pub struct Breaker<E> {
    inner: E,
    clock: SharedClock,
    circuits: [CircuitState; Circuit::ALL.len()],
    /// Whether the last poll of the change feed failed.
    feed_failed: AtomicBool,
}

impl<E: Engine> Breaker<E> {
    /// Creates a breaker in front of `inner`.
    pub fn new(inner: E, clock: SharedClock) -> Self {
        let circuits = Circuit::ALL.map(CircuitState::new);
        Self { inner, clock, circuits, feed_failed: AtomicBool::new(false) }
    }

    /// The inner engine.
    pub fn inner(&self) -> &E {
        &self.inner
    }

    /// Whether the calls of a circuit are rejected.
    pub fn is_open(&self, circuit: Circuit) -> bool {
        self.circuit(circuit).is_open()
    }

    /// Whether a circuit is open, and its next call is admitted as a probe.
    pub fn is_probe_due(&self, circuit: Circuit) -> bool {
        self.circuit(circuit).is_probe_due(self.clock.monotonic())
    }

    /// How often a circuit opened.
    pub fn open_count(&self, circuit: Circuit) -> u64 {
        self.circuit(circuit).open_count()
    }

    /// How many reads, or writes, were rejected, over all of their circuits.
    pub fn refused_count(&self, operation: Operation) -> u64 {
        let circuits = Circuit::ALL.into_iter().filter(|circuit| circuit.operation() == operation);
        circuits.map(|circuit| self.circuit(circuit).refused_count()).sum()
    }

    fn circuit(&self, circuit: Circuit) -> &CircuitState {
        &self.circuits[circuit as usize]
    }

    fn admit(&self, call: Call, operation: Operation) -> Result<(), StoreError> {
        match Circuit::for_operation(call.lane, operation) {
            Some(circuit) => self.circuit(circuit).admit(self.clock.monotonic()),
            None => Ok(()),
        }
    }

    fn record(&self, call: Call, operation: Operation, failure: Option<FailureKind>) {
        let operation = failure.map_or(operation, |kind| kind.affected_operation(operation));
        if let (Some(FailureKind::Starved), Some(circuit)) =
            (failure, Circuit::for_operation(call.lane, operation))
        {
            return self.circuit(circuit).record_starved(self.clock.monotonic());
        }
        let Some(responds) = call.database_responds(failure) else { return };
        let failure = failure.filter(|_| !responds);
        match Circuit::for_operation(call.lane, operation) {
            Some(circuit) => self.circuit(circuit).record(failure, self.clock.monotonic()),
            None => self.record_feed(failure.is_some()),
        }
    }

    /// When the feed recovers, the database responds again: read circuits may probe at once.
    fn record_feed(&self, failed: bool) {
        if self.feed_failed.swap(failed, Ordering::Relaxed) && !failed {
            let reads =
                Lane::ALL.into_iter().filter_map(|lane| Circuit::for_operation(lane, Operation::Read));
            reads.for_each(|circuit| self.circuit(circuit).probe_now());
        }
    }
}

impl<E: Engine> Engine for Breaker<E> {
    async fn query(&self, call: Call, statement: Statement) -> Result<Rows, StoreError> {
        self.admit(call, Operation::Read)?;
        let outcome = self.inner.query(call, statement).await;
        self.record(call, Operation::Read, outcome.as_ref().err().map(|error| error.kind));
        outcome
    }

    async fn transactions(&self, call: Call, transactions: Vec<Transaction>) -> Vec<TransactionResult> {
        if let Err(refused) = self.admit(call, Operation::Write) {
            return transactions.iter().map(|_| Err(refused.clone())).collect();
        }
        let outcomes = self.inner.transactions(call, transactions).await;
        // One success shows that the next call may succeed, regardless of the other results.
        let failure = match outcomes.iter().any(Result::is_ok) {
            true => None,
            false => first_failure(&outcomes).map(|error| error.kind),
        };
        self.record(call, Operation::Write, failure);
        outcomes
    }
}
