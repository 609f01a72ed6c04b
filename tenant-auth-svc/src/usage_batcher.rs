//! Batches concurrent usage requests into one transaction.
//!
//! At most one transaction is in flight. Requests that arrive meanwhile wait for the next one, and the first
//! of them waits a few milliseconds for others. So a slow database gets larger transactions, not more of
//! them. The queue is bounded by events: a request that does not fit is refused, and no accepted request is
//! dropped.

mod counts;
mod queue;
mod writer;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

pub use self::counts::{EventOutcome, UsageCounts, UsageTable};
use self::{
    queue::{QueueLimiter, WaitingRequest},
    writer::BatchWriter,
};
use crate::domain::{
    store::{FailureKind, StoreError},
    usage::{IdempotentWrite, MAX_EVENTS_PER_REQUEST, StoredOutcome, UsageError, UsageStore, UsageWriter},
};

/// Queue size and batch delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatcherConfig {
    /// Maximum number of events that are queued or being committed.
    pub max_queued_events: usize,
    /// How long the first request waits for others.
    pub batch_delay: Duration,
}

impl BatcherConfig {
    /// The minimum capacity of the queue: one request.
    pub const MIN_QUEUED_EVENTS: usize = MAX_EVENTS_PER_REQUEST;
}

/// Submits usage requests to the batch writer. Cheap to clone; clones share the queue.
#[derive(Clone, Debug)]
pub struct UsageBatcher {
    limiter: Arc<QueueLimiter>,
    counts: Arc<UsageCounts>,
    sender: mpsc::UnboundedSender<WaitingRequest>,
}

/// The task that commits queued requests. It runs until it is dropped, and also commits requests whose
/// callers have gone.
#[derive(Debug)]
pub struct BatcherTask {
    limiter: Arc<QueueLimiter>,
    task: JoinHandle<()>,
}

impl UsageBatcher {
    /// Starts to commit recorded requests to `store`.
    pub fn start<S: UsageStore>(store: S, config: BatcherConfig) -> (Self, BatcherTask) {
        let limiter = Arc::new(QueueLimiter::new(config.max_queued_events));
        // Bounded by the permits: a sender acquires one before it sends.
        let (sender, receiver) = mpsc::unbounded_channel();
        let counts = Arc::<UsageCounts>::default();
        let task =
            tokio::spawn(BatchWriter::new(store, config.batch_delay, receiver, Arc::clone(&counts)).run());
        (Self { limiter: Arc::clone(&limiter), counts, sender }, BatcherTask { limiter, task })
    }
}

impl UsageBatcher {
    /// Returns the counts of event outcomes, rows and transactions.
    #[must_use]
    pub fn counts(&self) -> &UsageCounts {
        &self.counts
    }

    /// Returns the number of events that are queued or being committed.
    #[must_use]
    pub fn queued_events(&self) -> usize {
        self.limiter.in_use()
    }

    /// Returns the capacity of the queue, in events.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.limiter.capacity()
    }
}

impl UsageWriter for UsageBatcher {
    async fn write(&self, write: IdempotentWrite, deadline: Instant) -> Result<StoredOutcome, UsageError> {
        let count_refused = |error: &UsageError| {
            if *error == UsageError::QueueFull {
                self.counts.count_outcome(EventOutcome::Refused, write.event_count);
            }
        };
        let permit = QueueLimiter::acquire(&self.limiter, write.event_count).inspect_err(count_refused)?;
        let (sender, receiver) = oneshot::channel();
        let request =
            WaitingRequest { write, arrived_at: tokio::time::Instant::now(), reply: sender, _permit: permit };
        self.sender.send(request).map_err(|_| UsageError::Stopping)?;
        match tokio::time::timeout_at(deadline.into(), receiver).await {
            Ok(Ok(outcome)) => Ok(outcome?),
            // The batch writer has ended.
            Ok(Err(_)) => Err(UsageError::Stopping),
            Err(_) => {
                Err(StoreError::new(FailureKind::TimedOut, "not committed before the caller's deadline")
                    .into())
            }
        }
    }
}

impl BatcherTask {
    /// Returns the number of events that are queued or being committed.
    #[must_use]
    pub fn queued_events(&self) -> usize {
        self.limiter.in_use()
    }

    /// Waits until the number of events that are queued or being committed fulfils the condition.
    pub async fn wait_until_queued(&self, condition: impl FnMut(usize) -> bool) {
        self.limiter.wait_until(condition).await;
    }

    /// Closes the queue and waits up to `timeout` until all accepted requests are answered. Returns the
    /// number of events left.
    pub async fn drain(&self, timeout: Duration) -> usize {
        self.limiter.close();
        // On a timeout, the return value reports the remaining events.
        let _ = tokio::time::timeout(timeout, self.limiter.wait_until(|in_use| in_use == 0)).await;
        self.limiter.in_use()
    }
}

impl Drop for BatcherTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}
