//! Lets usage requests that arrive together be committed together.
//!
//! One transaction is under way at a time. What arrives meanwhile waits for the next one, and the first to arrive waits a few
//! milliseconds for company; so a slow database gets larger transactions, not more of them. The queue is bounded by
//! events: who finds no room is refused, nothing is dropped.

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

/// How much may wait, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatcherConfig {
    /// The most events that wait or are being committed.
    pub max_queued_events: usize,
    /// How long the first request waits for company.
    pub batch_delay: Duration,
}

impl BatcherConfig {
    /// The least room that makes sense: for one request.
    pub const MIN_QUEUED_EVENTS: usize = MAX_EVENTS_PER_REQUEST;
}

/// The way to the one transaction. Cheap to clone; clones share the queue.
#[derive(Clone, Debug)]
pub struct UsageBatcher {
    limiter: Arc<QueueLimiter>,
    counts: Arc<UsageCounts>,
    sender: mpsc::UnboundedSender<WaitingRequest>,
}

/// Commits what waits for as long as it exists, also what nobody waits for any more.
#[derive(Debug)]
pub struct BatcherTask {
    limiter: Arc<QueueLimiter>,
    task: JoinHandle<()>,
}

impl UsageBatcher {
    /// Begins to commit what is recorded, in `store`.
    pub fn start<S: UsageStore>(store: S, config: BatcherConfig) -> (Self, BatcherTask) {
        let places = Arc::new(QueueLimiter::new(config.max_queued_events));
        // Bounded by the places: a sender has one before it sends.
        let (sender, receiver) = mpsc::unbounded_channel();
        let counts = Arc::<UsageCounts>::default();
        let task =
            tokio::spawn(BatchWriter::new(store, config.batch_delay, receiver, Arc::clone(&counts)).run());
        (Self { limiter: Arc::clone(&places), counts, sender }, BatcherTask { limiter: places, task })
    }
}

impl UsageBatcher {
    /// What became of what was recorded.
    #[must_use]
    pub fn counts(&self) -> &UsageCounts {
        &self.counts
    }

    /// How many events wait or are being committed.
    #[must_use]
    pub fn queued_events(&self) -> usize {
        self.limiter.in_use()
    }

    /// How many may.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.limiter.capacity()
    }
}

impl UsageWriter for UsageBatcher {
    async fn write(&self, claim: IdempotentWrite, deadline: Instant) -> Result<StoredOutcome, UsageError> {
        let refused = |error: &UsageError| {
            if *error == UsageError::QueueFull {
                self.counts.count_outcome(EventOutcome::Refused, claim.event_count);
            }
        };
        let place = QueueLimiter::acquire(&self.limiter, claim.event_count).inspect_err(refused)?;
        let (answer, answered) = oneshot::channel();
        let waiting = WaitingRequest {
            write: claim,
            arrived_at: tokio::time::Instant::now(),
            reply: answer,
            _permit: place,
        };
        self.sender.send(waiting).map_err(|_| UsageError::Stopping)?;
        match tokio::time::timeout_at(deadline.into(), answered).await {
            Ok(Ok(outcome)) => Ok(outcome?),
            // The writer is gone.
            Ok(Err(_)) => Err(UsageError::Stopping),
            Err(_) => {
                Err(StoreError::new(FailureKind::TimedOut, "not committed in the caller's time").into())
            }
        }
    }
}

impl BatcherTask {
    /// How many events wait or are being committed.
    #[must_use]
    pub fn queued_events(&self) -> usize {
        self.limiter.in_use()
    }

    /// Waits until as many events as wanted are waiting or being committed.
    pub async fn wait_until_queued(&self, wanted: impl FnMut(usize) -> bool) {
        self.limiter.wait_until(wanted).await;
    }

    /// Takes nothing new, and waits until everything that was taken has its answer, at most `patience`. Gives how many
    /// events are left.
    pub async fn drain(&self, patience: Duration) -> usize {
        self.limiter.close();
        // What is left is told.
        let _ = tokio::time::timeout(patience, self.limiter.wait_until(|taken| taken == 0)).await;
        self.limiter.in_use()
    }
}

impl Drop for BatcherTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}
