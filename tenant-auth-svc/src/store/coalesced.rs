//! Lets lookups that arrive together leave as one statement.
//!
//! While nothing is under way, a lookup leaves at once. While something is, lookups wait for company: until there are
//! [`MAX_LOOKUP`] keys, or what is under way has landed, or 5 ms have passed, so that one hanging call does not hold up
//! the rest.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use crate::domain::{
    key::{KeyHash, KeyRecord},
    store::{Call, FailureKind, Lane, MAX_LOOKUP, Store, StoreError},
    verdict::Revision,
};

/// The longest wait for company.
const LINGER: Duration = Duration::from_millis(5);

/// A key as found, or its absence, and the change-log position that this reflects.
pub type Found = (Option<KeyRecord>, Revision);

type Answer = Result<Vec<Found>, StoreError>;

/// A store whose lookups travel together. Cheap to clone; clones share everything.
#[derive(Debug)]
pub struct Coalesced<S>(Arc<Inner<S>>);

#[derive(Debug)]
struct Inner<S> {
    store: S,
    /// How long one statement may take, whoever waits for it.
    patience: Duration,
    known: Mutex<Queue>,
    unknown: Mutex<Queue>,
}

/// What waits, and how much is under way, in one lane.
#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Group>,
    keys: usize,
    under_way: usize,
    lingering: bool,
}

/// Keys that one caller asked for, at most [`MAX_LOOKUP`].
#[derive(Debug)]
struct Group {
    hashes: Arc<[KeyHash]>,
    answer: oneshot::Sender<Answer>,
}

impl<S> Clone for Coalesced<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Store> Coalesced<S> {
    /// Brings lookups in `store` together; each statement may take `patience`.
    pub fn new(store: S, patience: Duration) -> Self {
        Self(Arc::new(Inner { store, patience, known: Mutex::default(), unknown: Mutex::default() }))
    }

    /// Finds up to [`MAX_LOOKUP`] keys; one outcome each, in order.
    ///
    /// # Errors
    /// When the database gives no complete answer. It is then that of every key in the statement.
    pub async fn lookup(&self, known: bool, hashes: Arc<[KeyHash]>) -> Answer {
        let (answer, answered) = oneshot::channel();
        {
            let mut queue = self.queue(known);
            queue.keys += hashes.len();
            queue.waiting.push(Group { hashes, answer });
            if queue.under_way == 0 || queue.keys >= MAX_LOOKUP {
                self.depart(known, &mut queue);
            } else if !mem::replace(&mut queue.lingering, true) {
                let this = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(LINGER).await;
                    let mut queue = this.queue(known);
                    queue.lingering = false;
                    this.depart(known, &mut queue);
                });
            }
        }
        answered.await.unwrap_or_else(|_| {
            Err(StoreError::new(FailureKind::Broken, "a lookup ended without an outcome"))
        })
    }

    fn queue(&self, known: bool) -> MutexGuard<'_, Queue> {
        let queue = if known { &self.0.known } else { &self.0.unknown };
        // Every change to it is made of steps that leave it usable.
        queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what waits on its way, as many groups as fit into one statement.
    fn depart(&self, known: bool, queue: &mut Queue) {
        let mut keys = 0;
        let fitting = queue
            .waiting
            .iter()
            .take_while(|group| {
                keys += group.hashes.len();
                keys <= MAX_LOOKUP
            })
            .count();
        if fitting == 0 {
            return;
        }
        let groups: Vec<_> = queue.waiting.drain(..fitting).collect();
        queue.keys -= groups.iter().map(|group| group.hashes.len()).sum::<usize>();
        queue.under_way += 1;
        let this = self.clone();
        tokio::spawn(async move {
            let landed = Landed { coalesced: &this, known };
            this.run(known, groups).await;
            drop(landed);
        });
    }

    async fn run(&self, known: bool, groups: Vec<Group>) {
        let hashes: Vec<KeyHash> = groups.iter().flat_map(|group| group.hashes.iter().copied()).collect();
        let lane = if known { Lane::Known } else { Lane::Unknown };
        let call = Call::within(lane, self.0.patience);
        let outcome = self.0.store.lookup_keys(call, &hashes).await.and_then(|lookup| {
            if lookup.records.len() == hashes.len() {
                Ok(lookup)
            } else {
                Err(StoreError::new(FailureKind::Broken, "a lookup gave too few records"))
            }
        });
        match outcome {
            Ok(lookup) => {
                let mut found = lookup.records.into_iter().map(|record| (record, lookup.revision));
                for group in groups {
                    let share = found.by_ref().take(group.hashes.len()).collect();
                    // Whoever asked may have gone.
                    let _ = group.answer.send(Ok(share));
                }
            }
            Err(error) => {
                for group in groups {
                    let _ = group.answer.send(Err(error.clone()));
                }
            }
        }
    }
}

/// Makes room when a statement ends, however it ends, and sends on what has gathered meanwhile.
struct Landed<'a, S: Store> {
    coalesced: &'a Coalesced<S>,
    known: bool,
}

impl<S: Store> Drop for Landed<'_, S> {
    fn drop(&mut self) {
        let mut queue = self.coalesced.queue(self.known);
        queue.under_way -= 1;
        // At the runtime's own end nothing can be spawned, and nobody waits.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.coalesced.depart(self.known, &mut queue);
        }
    }
}
