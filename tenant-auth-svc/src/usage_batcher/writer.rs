//! Commits what waits, one transaction at a time.

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

/// The most events in one transaction, so that its statement stays well below what servers accept.
const MAX_EVENTS_PER_TRANSACTION: usize = 5_000;
/// How long one transaction may take at most; the hop gives up before.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Commits what waits.
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
        linger: Duration,
        arriving: mpsc::UnboundedReceiver<WaitingRequest>,
        counts: Arc<UsageCounts>,
    ) -> Self {
        Self { store, batch_delay: linger, incoming: arriving, waiting: VecDeque::new(), counts }
    }

    /// Runs until nobody can send any more, and everything sent is answered.
    pub(super) async fn run(mut self) {
        loop {
            let first = match self.waiting.front() {
                Some(first) => first.arrived_at,
                None => match self.incoming.recv().await {
                    Some(first) => {
                        let arrived = first.arrived_at;
                        self.waiting.push_back(first);
                        arrived
                    }
                    None => return,
                },
            };
            // Over already for what arrived during the last transaction.
            tokio::time::sleep_until(first + self.batch_delay).await;
            while let Ok(next) = self.incoming.try_recv() {
                self.waiting.push_back(next);
            }
            let batch = self.next_batch();
            self.commit(batch).await;
        }
    }

    /// Takes what fits into one transaction, in order. Of two claims with one id, whosever they are, the second waits for the
    /// next: the store wants ids that differ.
    fn next_batch(&mut self) -> Vec<WaitingRequest> {
        let mut ids = HashSet::new();
        let mut events = 0;
        let fitting = self
            .waiting
            .iter()
            .take_while(|waiting| {
                events += waiting.write.event_count;
                // A request alone always fits.
                (ids.is_empty() || events <= MAX_EVENTS_PER_TRANSACTION) && ids.insert(&waiting.write.id)
            })
            .count();
        self.waiting.drain(..fitting).collect()
    }

    /// Commits a batch. What the database refuses for what it says, and not for how it fares, is halved until the one at
    /// fault is alone: the others must not suffer for it.
    async fn commit(&self, batch: Vec<WaitingRequest>) {
        let mut parts = vec![batch];
        while let Some(mut part) = parts.pop() {
            let claims: Vec<_> = part.iter().map(|waiting| waiting.write.clone()).collect();
            let call = Call::within(Lane::Usage, TRANSACTION_TIMEOUT);
            let started = Instant::now();
            let outcome = self.store.record_usage(call, &claims).await;
            self.counts.record_latency(started.elapsed());
            match outcome {
                Ok(kept) => {
                    for (waiting, kept) in part.into_iter().zip(kept) {
                        match &kept {
                            Ok(kept) => self.counts.count_committed(&waiting.write, kept),
                            Err(_) => {
                                self.counts.count_outcome(EventOutcome::Failed, waiting.write.event_count)
                            }
                        }
                        // An answer to somebody who has left is dropped.
                        let _ = waiting.reply.send(kept.map_err(StoreError::from));
                    }
                }
                Err(error) if part.len() > 1 && is_caused_by_a_write(&error) => {
                    let second = part.split_off(part.len() / 2);
                    parts.extend([second, part]);
                }
                Err(error) => {
                    if is_caused_by_a_write(&error) {
                        tracing::error!(%error, "a usage request cannot be committed");
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

/// Whether a smaller transaction may succeed where this one failed. Of a database that does not answer, nobody asks more.
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
        | FailureKind::TooManyGuesses
        | FailureKind::PepperMissing => false,
    }
}
