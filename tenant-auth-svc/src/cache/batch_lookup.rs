//! Lets lookups that arrive together leave as one statement.
//!
//! While nothing is under way, a lookup leaves at once. While something is, lookups wait for company: until there are
//! [`MAX_IDS_PER_LOOKUP`] ids, or what is under way has landed, or 5 ms have passed, so that one hanging call does not hold up
//! the rest.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use super::lookup::Lookup;
use crate::{
    domain::{
        known_database::KnownDatabase,
        store::{Call, FailureKind, Lane, MAX_IDS_PER_LOOKUP, StoreError, UnknownReason},
        verdict::Revision,
    },
    instruments::spans::TraceContext,
};

/// The longest wait for company.
const BATCH_DELAY: Duration = Duration::from_millis(5);

/// A record as found, its absence, or why neither is known, and the change-log position that this reflects.
pub(super) type LookupOutcome<R> = (Result<Option<R>, UnknownReason>, Revision);

/// One outcome for each id, or that the database gave none.
type BatchOutcome<R> = Result<Vec<LookupOutcome<R>>, StoreError>;

/// Lookups that travel together. Cheap to clone; clones share everything.
#[derive(Debug)]
pub struct BatchLookup<L: Lookup>(Arc<BatchLookupInner<L>>);

#[derive(Debug)]
struct BatchLookupInner<L: Lookup> {
    table: L,
    known: Arc<KnownDatabase>,
    /// How long one statement may take, whoever waits for it.
    statement_timeout: Duration,
    /// Of ids that are not in memory, and of those that are.
    queues: [Mutex<LookupQueue<L>>; 2],
}

/// What waits, and how much is under way, in one lane.
#[derive(Debug)]
struct LookupQueue<L: Lookup> {
    groups: Vec<LookupGroup<L>>,
    queued_ids: usize,
    in_flight: usize,
    is_delaying: bool,
}

impl<L: Lookup> Default for LookupQueue<L> {
    fn default() -> Self {
        Self { groups: Vec::new(), queued_ids: 0, in_flight: 0, is_delaying: false }
    }
}

/// Ids that one caller asked for, at most [`MAX_IDS_PER_LOOKUP`].
#[derive(Debug)]
struct LookupGroup<L: Lookup> {
    ids: Arc<[L::Id]>,
    /// On whose behalf.
    trace: TraceContext,
    reply: oneshot::Sender<BatchOutcome<L::Record>>,
}

impl<L: Lookup> Clone for BatchLookup<L> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<L: Lookup> BatchLookup<L> {
    /// Brings lookups in `table` together; each statement may take `patience`, and is believed if it is of the database that is
    /// `known`.
    pub fn new(table: L, known: Arc<KnownDatabase>, patience: Duration) -> Self {
        let queues = Default::default();
        Self(Arc::new(BatchLookupInner { table, known, statement_timeout: patience, queues }))
    }

    /// What it looks up in.
    pub fn table(&self) -> &L {
        &self.0.table
    }

    /// Finds up to [`MAX_IDS_PER_LOOKUP`] records; one outcome each, in order.
    ///
    /// # Errors
    /// When the database gives no complete answer. It is then that of every record in the statement. A record that cannot be
    /// read is its own error.
    pub async fn lookup(&self, known: bool, ids: Arc<[L::Id]>) -> BatchOutcome<L::Record> {
        let (answer, answered) = oneshot::channel();
        {
            let mut queue = self.lock_queue(known);
            queue.queued_ids += ids.len();
            queue.groups.push(LookupGroup { ids, trace: TraceContext::current(), reply: answer });
            if queue.in_flight == 0 || queue.queued_ids >= MAX_IDS_PER_LOOKUP {
                self.start_statement(known, &mut queue);
            } else if !mem::replace(&mut queue.is_delaying, true) {
                let this = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(BATCH_DELAY).await;
                    let mut queue = this.lock_queue(known);
                    queue.is_delaying = false;
                    this.start_statement(known, &mut queue);
                });
            }
        }
        answered.await.unwrap_or_else(|_| {
            Err(StoreError::new(FailureKind::Internal, "a lookup ended without an outcome"))
        })
    }

    fn lock_queue(&self, known: bool) -> MutexGuard<'_, LookupQueue<L>> {
        let queue = &self.0.queues[usize::from(known)];
        // Every change to it is made of steps that leave it usable.
        queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what waits on its way, as many groups as fit into one statement.
    fn start_statement(&self, known: bool, queue: &mut LookupQueue<L>) {
        let mut ids = 0;
        let fitting = queue
            .groups
            .iter()
            .take_while(|group| {
                ids += group.ids.len();
                ids <= MAX_IDS_PER_LOOKUP
            })
            .count();
        if fitting == 0 {
            return;
        }
        let groups: Vec<_> = queue.groups.drain(..fitting).collect();
        queue.queued_ids -= groups.iter().map(|group| group.ids.len()).sum::<usize>();
        queue.in_flight += 1;
        let this = self.clone();
        // One statement for many: its span is that of the first one that is traced.
        let traced = groups.iter().find(|group| group.trace.is_traced());
        let within = traced.map(|group| group.trace.clone()).unwrap_or_default();
        tokio::spawn(within.run(async move {
            let landed = StatementGuard { batch_lookup: &this, is_known: known };
            this.run_statement(known, groups).await;
            drop(landed);
        }));
    }

    async fn run_statement(&self, known: bool, groups: Vec<LookupGroup<L>>) {
        let ids: Vec<L::Id> = groups.iter().flat_map(|group| group.ids.iter().cloned()).collect();
        let lane = if known { Lane::Known } else { Lane::Unknown };
        let call = Call::within(lane, self.0.statement_timeout);
        let outcome = self.0.table.lookup(call, &ids).await.and_then(|found| {
            self.0.known.check(&found.database)?;
            if found.records.len() == ids.len() {
                Ok(found)
            } else {
                Err(StoreError::new(FailureKind::Internal, "a lookup gave too few records"))
            }
        });
        match outcome {
            Ok(found) => {
                let revision = found.revision;
                let mut found = found.into_outcomes().map(|record| (record, revision));
                for group in groups {
                    let share = found.by_ref().take(group.ids.len()).collect();
                    // Whoever asked may have gone.
                    let _ = group.reply.send(Ok(share));
                }
            }
            Err(error) => {
                for group in groups {
                    let _ = group.reply.send(Err(error.clone()));
                }
            }
        }
    }
}

/// Makes room when a statement ends, however it ends, and sends on what has gathered meanwhile.
struct StatementGuard<'a, L: Lookup> {
    batch_lookup: &'a BatchLookup<L>,
    is_known: bool,
}

impl<L: Lookup> Drop for StatementGuard<'_, L> {
    fn drop(&mut self) {
        let mut queue = self.batch_lookup.lock_queue(self.is_known);
        queue.in_flight -= 1;
        // At the runtime's own end nothing can be spawned, and nobody waits.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.batch_lookup.start_statement(self.is_known, &mut queue);
        }
    }
}
