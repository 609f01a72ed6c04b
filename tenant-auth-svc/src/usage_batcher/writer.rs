//! Commits what waits, one transaction at a time.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{
    counts::{Fate, UsageCounts},
    queue::Waiting,
};
use crate::domain::{
    store::{Call, FailureKind, Lane, StoreError},
    usage::UsageStore,
};

/// The most events in one transaction, so that its statement stays well below what servers accept.
const MOST: usize = 5_000;
/// How long one transaction may take at most; the hop gives up before.
const PATIENCE: Duration = Duration::from_secs(60);

/// Commits what waits.
pub(super) struct Writer<S> {
    store: S,
    linger: Duration,
    arriving: mpsc::UnboundedReceiver<Waiting>,
    waiting: VecDeque<Waiting>,
    counts: Arc<UsageCounts>,
}

impl<S: UsageStore> Writer<S> {
    pub(super) fn new(
        store: S,
        linger: Duration,
        arriving: mpsc::UnboundedReceiver<Waiting>,
        counts: Arc<UsageCounts>,
    ) -> Self {
        Self { store, linger, arriving, waiting: VecDeque::new(), counts }
    }

    /// Runs until nobody can send any more, and everything sent is answered.
    pub(super) async fn run(mut self) {
        loop {
            let first = match self.waiting.front() {
                Some(first) => first.arrived,
                None => match self.arriving.recv().await {
                    Some(first) => {
                        let arrived = first.arrived;
                        self.waiting.push_back(first);
                        arrived
                    }
                    None => return,
                },
            };
            // Over already for what arrived during the last transaction.
            tokio::time::sleep_until(first + self.linger).await;
            while let Ok(next) = self.arriving.try_recv() {
                self.waiting.push_back(next);
            }
            let batch = self.next_batch();
            self.commit(batch).await;
        }
    }

    /// Takes what fits into one transaction, in order. Of two claims with one id, whosever they are, the second waits for the
    /// next: the store wants ids that differ.
    fn next_batch(&mut self) -> Vec<Waiting> {
        let mut ids = HashSet::new();
        let mut events = 0;
        let fitting = self
            .waiting
            .iter()
            .take_while(|waiting| {
                events += waiting.claim.events;
                // A request alone always fits.
                (ids.is_empty() || events <= MOST) && ids.insert(&waiting.claim.id)
            })
            .count();
        self.waiting.drain(..fitting).collect()
    }

    /// Commits a batch. What the database refuses for what it says, and not for how it fares, is halved until the one at
    /// fault is alone: the others must not suffer for it.
    async fn commit(&self, batch: Vec<Waiting>) {
        let mut parts = vec![batch];
        while let Some(mut part) = parts.pop() {
            let claims: Vec<_> = part.iter().map(|waiting| waiting.claim.clone()).collect();
            let call = Call::within(Lane::Usage, PATIENCE);
            let started = Instant::now();
            let outcome = self.store.record_usage(call, &claims).await;
            self.counts.took(started.elapsed());
            match outcome {
                Ok(kept) => {
                    for (waiting, kept) in part.into_iter().zip(kept) {
                        match &kept {
                            Ok(kept) => self.counts.committed(&waiting.claim, kept),
                            Err(_) => self.counts.fate(Fate::Failed, waiting.claim.events),
                        }
                        // An answer to somebody who has left is dropped.
                        let _ = waiting.answer.send(kept.map_err(StoreError::from));
                    }
                }
                Err(error) if part.len() > 1 && is_about_a_claim(&error) => {
                    let second = part.split_off(part.len() / 2);
                    parts.extend([second, part]);
                }
                Err(error) => {
                    if is_about_a_claim(&error) {
                        tracing::error!(%error, "a usage request cannot be committed");
                    }
                    for waiting in part {
                        self.counts.fate(Fate::Failed, waiting.claim.events);
                        let _ = waiting.answer.send(Err(error.clone()));
                    }
                }
            }
        }
    }
}

/// Whether a smaller transaction may succeed where this one failed. Of a database that does not answer, nobody asks more.
fn is_about_a_claim(error: &StoreError) -> bool {
    match error.kind {
        FailureKind::Conflict | FailureKind::Broken => true,
        FailureKind::Unreachable
        | FailureKind::TimedOut
        | FailureKind::Throttled
        | FailureKind::Busy
        | FailureKind::Denied
        | FailureKind::Blocked
        | FailureKind::ReadOnly
        | FailureKind::DiskFull
        | FailureKind::Garbled
        | FailureKind::Misplaced
        | FailureKind::CircuitOpen
        | FailureKind::Overloaded
        | FailureKind::Untrusted
        | FailureKind::Lagging
        | FailureKind::Starved
        | FailureKind::TooManyGuesses
        | FailureKind::PepperMissing => false,
    }
}
