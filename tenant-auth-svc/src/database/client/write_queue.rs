//! Sends one write at a time: queued transactions are taken in turn, lane by lane, and those of a lane are sent
//! together.
//!
//! A database has one writer. Concurrent writes gain nothing (sqld commits 520 changes per second from one caller,
//! 500 from sixteen), and writes that are abandoned half-way harm it: their entries in its queue for the write lock
//! remain, and after some of them it accepts no write until it is restarted. So each replica has one call in flight,
//! waits for it even when its callers have disconnected, and starts the next one when its outcome is known.

mod lane_queues;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, sync::oneshot};

use self::lane_queues::{LaneQueues, QueuedWrite};
use crate::{
    database::engine::{Engine, Rows, Statement, Transaction, TransactionResult},
    domain::store::{Call, FailureKind, Lane, StoreError},
    instruments::spans::TraceContext,
};

/// Maximum number of transactions of one lane in one call.
const MAX_TRANSACTIONS_PER_CALL: usize = 16;

/// An engine whose writes are queued. Reads pass through. Cheap to clone; clones share all state.
#[derive(Debug)]
pub struct WriteQueue<E>(Arc<WriteQueueShared<E>>);

#[derive(Debug)]
struct WriteQueueShared<E> {
    engine: E,
    /// How long to wait for a write that was sent.
    timeout: Duration,
    /// The runtime that sends calls: a thread that serves connections may end before they do.
    runtime: Option<Handle>,
    state: Mutex<WriteQueueState>,
}

#[derive(Debug, Default)]
struct WriteQueueState {
    lanes: LaneQueues,
    /// Since when a call has been in flight.
    in_flight_since: Option<Instant>,
}

impl<E> Clone for WriteQueue<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E: Engine> WriteQueue<E> {
    /// Queues writes to `engine`. Each call times out after `timeout`; maintenance calls have their own deadlines,
    /// because a migration may take longer.
    pub fn new(engine: E, timeout: Duration) -> Self {
        let runtime = Handle::try_current().ok();
        Self(Arc::new(WriteQueueShared { engine, timeout, runtime, state: Mutex::default() }))
    }

    /// The inner engine.
    pub fn inner(&self) -> &E {
        &self.0.engine
    }

    /// How many transactions of a lane are queued.
    pub fn queued(&self, lane: Lane) -> usize {
        self.lock_state().lanes.queued(lane)
    }

    /// How long the current call has been in flight; `None` without one.
    pub fn in_flight_for(&self) -> Option<Duration> {
        self.lock_state().in_flight_since.map(|since| since.elapsed())
    }

    fn lock_state(&self) -> MutexGuard<'_, WriteQueueState> {
        // Each modification leaves the value consistent, so a poisoned lock is usable.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a transaction and waits for its result.
    async fn write(&self, call: Call, transaction: Transaction) -> TransactionResult {
        let (reply, receiver) = oneshot::channel();
        {
            let mut queue = self.lock_state();
            queue.lanes.push(QueuedWrite { call, transaction, trace: TraceContext::current(), reply })?;
            if queue.in_flight_since.is_none() {
                queue.in_flight_since = Some(Instant::now());
                let runtime = self.0.runtime.clone().unwrap_or_else(Handle::current);
                runtime.spawn(WriteDriver(self.clone()).run());
            }
        }
        // A transaction that is still queued when its caller disconnects is never sent.
        match tokio::time::timeout_at(call.deadline.into(), receiver).await {
            Ok(result) => result.unwrap_or_else(|_| Err(missing_outcome())),
            Err(_) => Err(StoreError::new(
                FailureKind::TimedOut,
                "the deadline passed before the database answered the write; it may still take effect",
            )),
        }
    }
}

impl<E: Engine> Engine for WriteQueue<E> {
    async fn query(&self, call: Call, statement: Statement) -> Result<Rows, StoreError> {
        self.0.engine.query(call, statement).await
    }

    async fn transactions(&self, call: Call, transactions: Vec<Transaction>) -> Vec<TransactionResult> {
        futures::future::join_all(transactions.into_iter().map(|transaction| self.write(call, transaction)))
            .await
    }
}

/// Sends queued transactions in a separate task: a caller that disconnects must not stop it for the others.
struct WriteDriver<E: Engine>(WriteQueue<E>);

impl<E: Engine> WriteDriver<E> {
    async fn run(self) {
        while let Some((lane, batch)) = self.take_next() {
            self.send(lane, batch).await;
        }
    }

    /// Takes the next batch; `None` ends the task.
    fn take_next(&self) -> Option<(Lane, Vec<QueuedWrite>)> {
        let mut queue = self.0.lock_state();
        let next = queue.lanes.pop_batch(MAX_TRANSACTIONS_PER_CALL);
        queue.in_flight_since = next.as_ref().map(|_| Instant::now());
        next
    }

    async fn send(&self, lane: Lane, batch: Vec<QueuedWrite>) {
        let inner = &self.0.0;
        let mut deadline = Instant::now() + inner.timeout;
        if lane == Lane::Maintenance {
            deadline = batch.iter().map(|write| write.call.deadline).fold(deadline, Instant::max);
        }
        let call = Call::until(lane, deadline);
        // One call for several transactions: its span belongs to the first request that is traced.
        let traced = batch.iter().find(|write| write.trace.is_traced());
        let trace = traced.map(|write| write.trace.clone()).unwrap_or_default();
        let (transactions, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|write| (write.transaction, write.reply)).unzip();
        let outcomes = trace.run(async move { inner.engine.transactions(call, transactions).await }).await;
        let mut outcomes = outcomes.into_iter();
        for reply in replies {
            // The caller may have disconnected.
            let _ = reply.send(outcomes.next().unwrap_or_else(|| Err(missing_outcome())));
        }
    }
}

impl<E: Engine> Drop for WriteDriver<E> {
    /// When the task ends for any reason, the next write starts another one.
    fn drop(&mut self) {
        self.0.lock_state().in_flight_since = None;
    }
}

fn missing_outcome() -> StoreError {
    StoreError::new(FailureKind::Internal, "a transaction ended without a result")
}

#[cfg(test)]
mod tests;
