//! Lets lookups that arrive together leave as one statement.
//!
//! While nothing is under way, a lookup leaves at once. While something is, lookups wait for company: until there are
//! [`MAX_LOOKUP`] ids, or what is under way has landed, or 5 ms have passed, so that one hanging call does not hold up
//! the rest.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use super::source::Lookup;
use crate::{
    domain::{
        known::KnownDatabase,
        store::{Call, FailureKind, Lane, MAX_LOOKUP, NotKnown, StoreError},
        verdict::Revision,
    },
    instruments::spans::Within,
};

/// The longest wait for company.
const LINGER: Duration = Duration::from_millis(5);

/// A record as found, its absence, or why neither is known, and the change-log position that this reflects.
pub(super) type Read<R> = (Result<Option<R>, NotKnown>, Revision);

/// One outcome for each id, or that the database gave none.
type Answer<R> = Result<Vec<Read<R>>, StoreError>;

/// Lookups that travel together. Cheap to clone; clones share everything.
#[derive(Debug)]
pub struct Coalesced<L: Lookup>(Arc<Inner<L>>);

#[derive(Debug)]
struct Inner<L: Lookup> {
    table: L,
    known: Arc<KnownDatabase>,
    /// How long one statement may take, whoever waits for it.
    patience: Duration,
    /// Of ids that are not in memory, and of those that are.
    queues: [Mutex<Queue<L>>; 2],
}

/// What waits, and how much is under way, in one lane.
#[derive(Debug)]
struct Queue<L: Lookup> {
    waiting: Vec<Group<L>>,
    ids: usize,
    under_way: usize,
    lingering: bool,
}

impl<L: Lookup> Default for Queue<L> {
    fn default() -> Self {
        Self { waiting: Vec::new(), ids: 0, under_way: 0, lingering: false }
    }
}

/// Ids that one caller asked for, at most [`MAX_LOOKUP`].
#[derive(Debug)]
struct Group<L: Lookup> {
    ids: Arc<[L::Id]>,
    /// On whose behalf.
    within: Within,
    answer: oneshot::Sender<Answer<L::Record>>,
}

impl<L: Lookup> Clone for Coalesced<L> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<L: Lookup> Coalesced<L> {
    /// Brings lookups in `table` together; each statement may take `patience`, and is believed if it is of the database that is
    /// `known`.
    pub fn new(table: L, known: Arc<KnownDatabase>, patience: Duration) -> Self {
        let queues = Default::default();
        Self(Arc::new(Inner { table, known, patience, queues }))
    }

    /// What it looks up in.
    pub fn table(&self) -> &L {
        &self.0.table
    }

    /// Finds up to [`MAX_LOOKUP`] records; one outcome each, in order.
    ///
    /// # Errors
    /// When the database gives no complete answer. It is then that of every record in the statement. A record that cannot be
    /// read is its own error.
    pub async fn lookup(&self, known: bool, ids: Arc<[L::Id]>) -> Answer<L::Record> {
        let (answer, answered) = oneshot::channel();
        {
            let mut queue = self.queue(known);
            queue.ids += ids.len();
            queue.waiting.push(Group { ids, within: Within::current(), answer });
            if queue.under_way == 0 || queue.ids >= MAX_LOOKUP {
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

    fn queue(&self, known: bool) -> MutexGuard<'_, Queue<L>> {
        let queue = &self.0.queues[usize::from(known)];
        // Every change to it is made of steps that leave it usable.
        queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what waits on its way, as many groups as fit into one statement.
    fn depart(&self, known: bool, queue: &mut Queue<L>) {
        let mut ids = 0;
        let fitting = queue
            .waiting
            .iter()
            .take_while(|group| {
                ids += group.ids.len();
                ids <= MAX_LOOKUP
            })
            .count();
        if fitting == 0 {
            return;
        }
        let groups: Vec<_> = queue.waiting.drain(..fitting).collect();
        queue.ids -= groups.iter().map(|group| group.ids.len()).sum::<usize>();
        queue.under_way += 1;
        let this = self.clone();
        // One statement for many: its span is that of the first one that is traced.
        let traced = groups.iter().find(|group| group.within.is_traced());
        let within = traced.map(|group| group.within.clone()).unwrap_or_default();
        tokio::spawn(within.run(async move {
            let landed = Landed { coalesced: &this, known };
            this.run(known, groups).await;
            drop(landed);
        }));
    }

    async fn run(&self, known: bool, groups: Vec<Group<L>>) {
        let ids: Vec<L::Id> = groups.iter().flat_map(|group| group.ids.iter().cloned()).collect();
        let lane = if known { Lane::Known } else { Lane::Unknown };
        let call = Call::within(lane, self.0.patience);
        let outcome = self.0.table.lookup(call, &ids).await.and_then(|found| {
            self.0.known.check(&found.database)?;
            if found.records.len() == ids.len() {
                Ok(found)
            } else {
                Err(StoreError::new(FailureKind::Broken, "a lookup gave too few records"))
            }
        });
        match outcome {
            Ok(found) => {
                let revision = found.revision;
                let mut found = found.into_outcomes().map(|record| (record, revision));
                for group in groups {
                    let share = found.by_ref().take(group.ids.len()).collect();
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
struct Landed<'a, L: Lookup> {
    coalesced: &'a Coalesced<L>,
    known: bool,
}

impl<L: Lookup> Drop for Landed<'_, L> {
    fn drop(&mut self) {
        let mut queue = self.coalesced.queue(self.known);
        queue.under_way -= 1;
        // At the runtime's own end nothing can be spawned, and nobody waits.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.coalesced.depart(self.known, &mut queue);
        }
    }
}
