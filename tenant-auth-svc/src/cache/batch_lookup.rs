//! Batches concurrent lookups into one statement.
//!
//! A lookup starts at once if no statement is in flight. Otherwise it is queued until there are
//! [`MAX_IDS_PER_LOOKUP`] ids, the statement in flight has finished, or 5 ms have passed. The 5 ms limit
//! keeps one hanging call from blocking the others.

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
        store::{Call, FailureKind, Lane, MAX_IDS_PER_LOOKUP, ReadFrom, StoreError, UnknownReason},
        verdict::Revision,
    },
    instruments::spans::TraceContext,
};

/// Maximum time that a lookup is delayed for batching.
const BATCH_DELAY: Duration = Duration::from_millis(5);

/// The result for one id (the record, `None` if there is none, or why it is unknown), and the change-log
/// position that the result reflects.
pub(super) type LookupOutcome<R> = (Result<Option<R>, UnknownReason>, Revision);

/// One result per id, or the error of the whole statement.
type BatchOutcome<R> = Result<Vec<LookupOutcome<R>>, StoreError>;

/// Batched lookups in one table. Cheap to clone; clones share all state.
#[derive(Debug)]
pub struct BatchLookup<L: Lookup>(Arc<BatchLookupInner<L>>);

#[derive(Debug)]
struct BatchLookupInner<L: Lookup> {
    table: L,
    known: Arc<KnownDatabase>,
    /// Time limit of one statement, independent of the callers' deadlines.
    statement_timeout: Duration,
    /// By [`LookupClass::index`].
    queues: [Mutex<LookupQueue<L>>; 4],
}

/// Lookups that share statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupClass {
    /// Whether the ids are cached.
    pub is_known: bool,
    /// Whether the primary must answer.
    pub at_primary: bool,
}

impl LookupClass {
    const fn index(self) -> usize {
        self.is_known as usize + 2 * self.at_primary as usize
    }
}

/// Queued groups and the number of statements in flight, in one lane.
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

/// The ids of one call, at most [`MAX_IDS_PER_LOOKUP`].
#[derive(Debug)]
struct LookupGroup<L: Lookup> {
    ids: Arc<[L::Id]>,
    /// Trace context of the call.
    trace: TraceContext,
    reply: oneshot::Sender<BatchOutcome<L::Record>>,
}

impl<L: Lookup> Clone for BatchLookup<L> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<L: Lookup> BatchLookup<L> {
    /// Creates batched lookups in `table`. Each statement may take `statement_timeout`; its result is used
    /// only if it comes from the `known` database.
    pub fn new(table: L, known: Arc<KnownDatabase>, statement_timeout: Duration) -> Self {
        let queues = Default::default();
        Self(Arc::new(BatchLookupInner { table, known, statement_timeout, queues }))
    }

    /// Returns the table.
    pub fn table(&self) -> &L {
        &self.0.table
    }

    /// Looks up to [`MAX_IDS_PER_LOOKUP`] records up; one outcome each, in order.
    ///
    /// # Errors
    /// When the database returns no complete result: every id of the statement gets that error. An unreadable
    /// record is an error of that record only.
    pub async fn lookup(&self, class: LookupClass, ids: Arc<[L::Id]>) -> BatchOutcome<L::Record> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut queue = self.lock_queue(class);
            queue.queued_ids += ids.len();
            queue.groups.push(LookupGroup { ids, trace: TraceContext::current(), reply: sender });
            if queue.in_flight == 0 || queue.queued_ids >= MAX_IDS_PER_LOOKUP {
                self.start_statement(class, &mut queue);
            } else if !mem::replace(&mut queue.is_delaying, true) {
                let this = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(BATCH_DELAY).await;
                    let mut queue = this.lock_queue(class);
                    queue.is_delaying = false;
                    this.start_statement(class, &mut queue);
                });
            }
        }
        receiver.await.unwrap_or_else(|_| {
            Err(StoreError::new(FailureKind::Internal, "a lookup ended without an outcome"))
        })
    }

    fn lock_queue(&self, class: LookupClass) -> MutexGuard<'_, LookupQueue<L>> {
        let queue = &self.0.queues[class.index()];
        // Every step of a change leaves the queue usable, so a panic does not break it.
        queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a statement with as many queued groups as fit into it.
    fn start_statement(&self, class: LookupClass, queue: &mut LookupQueue<L>) {
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
        // The span of the statement belongs to the first traced group.
        let traced_group = groups.iter().find(|group| group.trace.is_traced());
        let trace = traced_group.map(|group| group.trace.clone()).unwrap_or_default();
        tokio::spawn(trace.run(async move {
            let guard = StatementGuard { batch_lookup: &this, class };
            this.run_statement(class, groups).await;
            drop(guard);
        }));
    }

    async fn run_statement(&self, class: LookupClass, groups: Vec<LookupGroup<L>>) {
        let ids: Vec<L::Id> = groups.iter().flat_map(|group| group.ids.iter().cloned()).collect();
        let lane = if class.is_known { Lane::Known } else { Lane::Unknown };
        let call = Call::within(lane, self.0.statement_timeout);
        let call = if class.at_primary { call.reading_from(ReadFrom::Primary) } else { call };
        let outcome = self.0.table.lookup(call, &ids).await.and_then(|found| {
            self.0.known.check(&found.database)?;
            if found.records.len() == ids.len() {
                Ok(found)
            } else {
                Err(StoreError::new(FailureKind::Internal, "a lookup returned too few records"))
            }
        });
        match outcome {
            Ok(found) => {
                let revision = found.revision;
                let mut found = found.into_outcomes().map(|record| (record, revision));
                for group in groups {
                    let outcomes = found.by_ref().take(group.ids.len()).collect();
                    // The receiver may have been dropped.
                    let _ = group.reply.send(Ok(outcomes));
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

/// Decrements the in-flight count when a statement ends, also by a panic, and starts the next one.
struct StatementGuard<'a, L: Lookup> {
    batch_lookup: &'a BatchLookup<L>,
    class: LookupClass,
}

impl<L: Lookup> Drop for StatementGuard<'_, L> {
    fn drop(&mut self) {
        let mut queue = self.batch_lookup.lock_queue(self.class);
        queue.in_flight -= 1;
        // During the shutdown of the runtime no task can be spawned, and no receiver is left.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.batch_lookup.start_statement(self.class, &mut queue);
        }
    }
}
