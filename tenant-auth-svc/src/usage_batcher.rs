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

pub use self::counts::{Fate, Table, UsageCounts};
use self::{
    queue::{Places, Waiting},
    writer::Writer,
};
use crate::domain::{
    store::{FailureKind, StoreError},
    usage::{Claim, Kept, MAX_EVENTS, Recorder, UsageError, UsageStore},
};

/// How much may wait, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// The most events that wait or are being committed.
    pub events: usize,
    /// How long the first request waits for company.
    pub linger: Duration,
}

impl GroupConfig {
    /// The least room that makes sense: for one request.
    pub const MIN_EVENTS: usize = MAX_EVENTS;
}

/// The way to the one transaction. Cheap to clone; clones share the queue.
#[derive(Clone, Debug)]
pub struct Grouped {
    places: Arc<Places>,
    counts: Arc<UsageCounts>,
    sender: mpsc::UnboundedSender<Waiting>,
}

/// Commits what waits for as long as it exists, also what nobody waits for any more.
#[derive(Debug)]
pub struct Committing {
    places: Arc<Places>,
    task: JoinHandle<()>,
}

impl Grouped {
    /// Begins to commit what is recorded, in `store`.
    pub fn begin<S: UsageStore>(store: S, config: GroupConfig) -> (Self, Committing) {
        let places = Arc::new(Places::new(config.events));
        // Bounded by the places: a sender has one before it sends.
        let (sender, receiver) = mpsc::unbounded_channel();
        let counts = Arc::<UsageCounts>::default();
        let task = tokio::spawn(Writer::new(store, config.linger, receiver, Arc::clone(&counts)).run());
        (Self { places: Arc::clone(&places), counts, sender }, Committing { places, task })
    }
}

impl Grouped {
    /// What became of what was recorded.
    #[must_use]
    pub fn counts(&self) -> &UsageCounts {
        &self.counts
    }

    /// How many events wait or are being committed.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.places.taken()
    }

    /// How many may.
    #[must_use]
    pub fn room(&self) -> usize {
        self.places.most()
    }
}

impl Recorder for Grouped {
    async fn record(&self, claim: Claim, deadline: Instant) -> Result<Kept, UsageError> {
        let refused = |error: &UsageError| {
            if *error == UsageError::QueueFull {
                self.counts.fate(Fate::Refused, claim.events);
            }
        };
        let place = Places::take(&self.places, claim.events).inspect_err(refused)?;
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { claim, arrived: tokio::time::Instant::now(), answer, _place: place };
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

impl Committing {
    /// How many events wait or are being committed.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.places.taken()
    }

    /// Waits until as many events as wanted are waiting or being committed.
    pub async fn has_waiting(&self, wanted: impl FnMut(usize) -> bool) {
        self.places.until(wanted).await;
    }

    /// Takes nothing new, and waits until everything that was taken has its answer, at most `patience`. Gives how many
    /// events are left.
    pub async fn finish(&self, patience: Duration) -> usize {
        self.places.close();
        // What is left is told.
        let _ = tokio::time::timeout(patience, self.places.until(|taken| taken == 0)).await;
        self.places.taken()
    }
}

impl Drop for Committing {
    fn drop(&mut self) {
        self.task.abort();
    }
}
