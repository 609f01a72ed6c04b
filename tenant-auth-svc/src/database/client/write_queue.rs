//! One write at a time: what waits takes turns, lane by lane, and what waits together is sent together.
//!
//! A database has one writer. Several at once gain nothing (a sqld commits 520 changes a second from one caller, 500 from
//! sixteen), and those that are given up half-way are what it cannot bear: their places in its queue for the write lock stay,
//! and after some of them it takes no change any more until it is restarted. So one call is under way per replica, it is
//! waited for even when its callers have left, and the next one begins when the fate of that one is known.

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

/// The most transactions of one lane in one call.
const MAX_TRANSACTIONS_PER_CALL: usize = 16;

/// An engine whose writes take turns. Reads pass. Cheap to clone; clones share everything.
#[derive(Debug)]
pub struct WriteQueue<E>(Arc<WriteQueueShared<E>>);

#[derive(Debug)]
struct WriteQueueShared<E> {
    engine: E,
    /// How long a write that was sent is waited for.
    timeout: Duration,
    /// Where calls are sent from: a thread that serves connections may end before they do.
    runtime: Option<Handle>,
    state: Mutex<WriteQueueState>,
}

#[derive(Debug, Default)]
struct WriteQueueState {
    lanes: LaneQueues,
    /// Since when a call has been under way.
    in_flight_since: Option<Instant>,
}

impl<E> Clone for WriteQueue<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E: Engine> WriteQueue<E> {
    /// Lets writes to `engine` take turns; each call is waited for up to `timeout`, and upkeep for as long as it asks for:
    /// a migration may take longer.
    pub fn new(engine: E, timeout: Duration) -> Self {
        let runtime = Handle::try_current().ok();
        Self(Arc::new(WriteQueueShared { engine, timeout, runtime, state: Mutex::default() }))
    }

    /// The engine behind.
    pub fn inner(&self) -> &E {
        &self.0.engine
    }

    /// How many transactions of a lane wait for their turn.
    pub fn queued(&self, lane: Lane) -> usize {
        self.lock_state().lanes.queued(lane)
    }

    /// For how long the call that is under way has been; `None` when none is.
    pub fn in_flight_for(&self) -> Option<Duration> {
        self.lock_state().in_flight_since.map(|since| since.elapsed())
    }

    fn lock_state(&self) -> MutexGuard<'_, WriteQueueState> {
        // Every change to it is made of steps that leave it usable.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for its turn and for its outcome.
    async fn write(&self, call: Call, transaction: Transaction) -> TransactionResult {
        let (answer, answered) = oneshot::channel();
        {
            let mut queue = self.lock_state();
            queue.lanes.push(QueuedWrite {
                call,
                transaction,
                trace: TraceContext::current(),
                reply: answer,
            })?;
            if queue.in_flight_since.is_none() {
                queue.in_flight_since = Some(Instant::now());
                let runtime = self.0.runtime.clone().unwrap_or_else(Handle::current);
                runtime.spawn(WriteDriver(self.clone()).run());
            }
        }
        // One that has not begun when its caller leaves never does.
        match tokio::time::timeout_at(call.deadline.into(), answered).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(missing_outcome())),
            Err(_) => Err(StoreError::new(
                FailureKind::TimedOut,
                "the caller's deadline came before its change was answered; it may still be made",
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

/// Sends what waits, in a task of its own: a caller that leaves must not end it for whoever comes next.
struct WriteDriver<E: Engine>(WriteQueue<E>);

impl<E: Engine> WriteDriver<E> {
    async fn run(self) {
        while let Some((lane, together)) = self.take_next() {
            self.send(lane, together).await;
        }
    }

    /// What is sent next; `None` ends the task.
    fn take_next(&self) -> Option<(Lane, Vec<QueuedWrite>)> {
        let mut queue = self.0.lock_state();
        let next = queue.lanes.pop_batch(MAX_TRANSACTIONS_PER_CALL);
        queue.in_flight_since = next.as_ref().map(|_| Instant::now());
        next
    }

    async fn send(&self, lane: Lane, together: Vec<QueuedWrite>) {
        let inner = &self.0.0;
        let mut deadline = Instant::now() + inner.timeout;
        if lane == Lane::Maintenance {
            deadline = together.iter().map(|waiting| waiting.call.deadline).fold(deadline, Instant::max);
        }
        let call = Call::until(lane, deadline);
        // One call for many: its span is that of the first one that is traced.
        let traced = together.iter().find(|waiting| waiting.trace.is_traced());
        let within = traced.map(|waiting| waiting.trace.clone()).unwrap_or_default();
        let (transactions, answers): (Vec<_>, Vec<_>) =
            together.into_iter().map(|waiting| (waiting.transaction, waiting.reply)).unzip();
        let outcomes = within.run(async move { inner.engine.transactions(call, transactions).await }).await;
        let mut outcomes = outcomes.into_iter();
        for answer in answers {
            // Whoever asked may have gone.
            let _ = answer.send(outcomes.next().unwrap_or_else(|| Err(missing_outcome())));
        }
    }
}

impl<E: Engine> Drop for WriteDriver<E> {
    /// However the task ends, the next write starts another one.
    fn drop(&mut self) {
        self.0.lock_state().in_flight_since = None;
    }
}

fn missing_outcome() -> StoreError {
    StoreError::new(FailureKind::Internal, "a transaction ended without an outcome")
}

#[cfg(test)]
mod tests;
