//! Commits queued usage requests, one transaction at a time.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{
    counts::{EventOutcome, UsageCounts},
    queue::WaitingRequest,
};
use crate::domain::{
    store::{Call, FailureKind, Lane, StoreError},
    usage::UsageStore,
};

/// Maximum number of events in one transaction. It keeps the statement well below the size limits of database
/// servers.
const MAX_EVENTS_PER_TRANSACTION: usize = 5_000;
/// Time limit of one transaction; the database client times out earlier.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Commits queued requests.
pub(super) struct BatchWriter<S> {
    store: S,
    batch_delay: Duration,
    incoming: mpsc::UnboundedReceiver<WaitingRequest>,
    waiting: VecDeque<WaitingRequest>,
    counts: Arc<UsageCounts>,
}

impl<S: UsageStore> BatchWriter<S> {
    pub(super) fn new(
        store: S,
        batch_delay: Duration,
        incoming: mpsc::UnboundedReceiver<WaitingRequest>,
        counts: Arc<UsageCounts>,
    ) -> Self {
        Self { store, batch_delay, incoming, waiting: VecDeque::new(), counts }
    }

    /// Runs until all senders are dropped and all requests are answered.
    pub(super) async fn run(mut self) {
        loop {
            let first = match self.waiting.front() {
                Some(first) => first.arrived_at,
                None => match self.incoming.recv().await {
                    Some(first) => {
                        let arrived_at = first.arrived_at;
                        self.waiting.push_back(first);
                        arrived_at
                    }
                    None => return,
                },
            };
            // For requests that arrived during the previous transaction, this time is already over.
            tokio::time::sleep_until(first + self.batch_delay).await;
            while let Ok(next) = self.incoming.try_recv() {
                self.waiting.push_back(next);
            }
            let batch = self.next_batch();
            self.commit(batch).await;
        }
    }

    /// Takes the requests that fit into one transaction, in order. The store needs distinct ids, so of two
    /// requests with the same id, of any callers, the second waits for the next transaction.
    fn next_batch(&mut self) -> Vec<WaitingRequest> {
        let mut ids = HashSet::new();
        let mut events = 0;
        let fitting = self
            .waiting
            .iter()
            .take_while(|waiting| {
                events += waiting.write.event_count;
                // A single request always fits.
                (ids.is_empty() || events <= MAX_EVENTS_PER_TRANSACTION) && ids.insert(&waiting.write.id)
            })
            .count();
        self.waiting.drain(..fitting).collect()
    }

    /// Commits a batch. If the database rejects it because of its content, the batch is halved until the
    /// faulty request is alone, so that the others are committed.
    async fn commit(&self, batch: Vec<WaitingRequest>) {
        let mut parts = vec![batch];
        while let Some(mut part) = parts.pop() {
            let writes: Vec<_> = part.iter().map(|waiting| waiting.write.clone()).collect();
            let call = Call::within(Lane::Usage, TRANSACTION_TIMEOUT);
            let started = Instant::now();
            let outcome = self.store.record_usage(call, &writes).await;
            self.counts.record_latency(started.elapsed());
            match outcome {
                Ok(stored) => {
                    for (waiting, stored) in part.into_iter().zip(stored) {
                        match &stored {
                            Ok(stored) => self.counts.count_committed(&waiting.write, stored),
                            Err(_) => {
                                self.counts.count_outcome(EventOutcome::Failed, waiting.write.event_count)
                            }
                        }
                        // The receiver may have been dropped.
                        let _ = waiting.reply.send(stored.map_err(StoreError::from));
                    }
                }
                Err(error) if part.len() > 1 && is_caused_by_a_write(&error) => {
                    let second = part.split_off(part.len() / 2);
                    parts.extend([second, part]);
                }
                Err(error) => {
                    if is_caused_by_a_write(&error) {
                        tracing::error!(%error, "usage request cannot be committed");
                    }
                    for waiting in part {
                        self.counts.count_outcome(EventOutcome::Failed, waiting.write.event_count);
                        let _ = waiting.reply.send(Err(error.clone()));
                    }
                }
            }
        }
    }
}

/// Whether a smaller transaction may succeed where this one failed. If the database does not respond, the
/// batch is not retried.
fn is_caused_by_a_write(error: &StoreError) -> bool {
    match error.kind {
        FailureKind::Conflict | FailureKind::Internal => true,
        FailureKind::Unreachable
        | FailureKind::TimedOut
        | FailureKind::Throttled
        | FailureKind::Busy
        | FailureKind::Denied
        | FailureKind::Blocked
        | FailureKind::ReadOnly
        | FailureKind::DiskFull
        | FailureKind::InvalidResponse
        | FailureKind::SchemaMissing
        | FailureKind::CircuitOpen
        | FailureKind::Overloaded
        | FailureKind::Untrusted
        | FailureKind::Lagging
        | FailureKind::Starved
        | FailureKind::TooManyUnknownLookups
        | FailureKind::PepperMissing => false,
    }
}
