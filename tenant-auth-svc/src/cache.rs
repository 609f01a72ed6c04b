//! Memory in front of the database: what is found there, and the absence of what is not.
//!
//! `pool` is what is remembered, `fence` keeps changes and loads apart, `flight` is a load that many wait for.

mod ahead;
pub mod batch_lookup;
#[cfg(test)]
mod bounds;
mod entry;
mod evicted;
mod fates;
mod fence;
mod figures;
mod flight;
mod inspect;
mod loading;
mod news;
pub mod oldest;
mod pool;
pub mod source;
mod sync;
mod weight;
mod written;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;

pub use self::{
    ahead::Reading,
    figures::{Coverage, Size},
};
use self::{
    batch_lookup::{Coalesced, Read},
    flight::{Flight, NotRead, Outcomes},
    oldest::Oldest,
    pool::{Loaded, Pool, Recalled},
    source::Lookup,
};
use crate::{
    domain::{
        change::{BySubject, Forget, ForgetAbsence, News},
        clock::SharedClock,
        freshness::{Lifetimes, World},
        grace::Grace,
        guesses::{Asker, Guesses, OnBehalf},
        knowledge::{Knowledge, RecordSource},
        known::KnownDatabase,
        store::{FailureKind, NotKnown, StoreError},
        verdict::{Revision, Source},
    },
    instruments::counts::Counts,
};

/// What fits into one place of memory, in bytes: nearly every record does, with what is needed for keeping it. Longer ones take
/// several, so that places bound bytes.
pub const PLACE: usize = 1_024;
/// What an absence takes at most, in bytes.
pub const ABSENCE: usize = 256;
/// The most places for what this replica has written lately, of keys and of sessions each: more than it can write in the time for
/// which that is kept, one call after the other.
pub const MAX_WRITTEN: u64 = 30_000;

/// How much is remembered, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// Most records in memory.
    pub keys: u64,
    /// Most absences in memory.
    pub absences: u64,
    /// For how long a record is good for what. Each entry's own fresh time is up to 20 % shorter or longer, so that
    /// what was loaded together is not reloaded together.
    pub lifetimes: Lifetimes,
    /// How long an absence is used without asking again.
    pub absent: Duration,
    /// How long a caller may reuse a fresh record while it follows the stream of invalidations.
    pub reuse_watched: Duration,
}

/// Tells how the database and its change feed fare.
pub type Outlook = Box<dyn Fn(Duration) -> World + Send + Sync>;

/// What a memory goes by.
pub struct Surroundings {
    /// What time it is.
    pub clock: SharedClock,
    /// For how long it answers in an outage.
    pub grace: Arc<Grace>,
    /// Tells of outages.
    pub outlook: Outlook,
    /// The database that is believed.
    pub known: Arc<KnownDatabase>,
    /// Is told how old the answers are that are no longer fresh.
    pub oldest: Arc<Oldest>,
    /// How many guesses may be made.
    pub guesses: Arc<Guesses>,
}

/// A memory in front of what can be looked up. Cheap to clone; clones share everything.
pub struct Cached<L: Lookup>(Arc<Inner<L>>);

/// The loads under way.
type Flights<L> = HashMap<<L as Lookup>::Id, Flight<<L as Lookup>::Id, <L as Lookup>::Record>>;

struct Inner<L: Lookup> {
    store: Coalesced<L>,
    clock: SharedClock,
    outlook: Outlook,
    known: Arc<KnownDatabase>,
    oldest: Arc<Oldest>,
    guesses: Arc<Guesses>,
    pool: Pool<L::Id, L::Record>,
    flights: Mutex<Flights<L>>,
    revision: AtomicI64,
    /// Look-ups that memory could not answer, in the one slot.
    misses: Counts,
}

impl<L: Lookup> Clone for Cached<L> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<L: Lookup> fmt::Debug for Cached<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").finish_non_exhaustive()
    }
}

impl<L: Lookup> Cached<L> {
    /// Remembers what `store` says.
    pub fn new(store: Coalesced<L>, config: CacheConfig, surroundings: Surroundings) -> Self {
        let Surroundings { clock, grace, outlook, known, oldest, guesses } = surroundings;
        Self(Arc::new(Inner {
            store,
            clock,
            outlook,
            known,
            oldest,
            guesses,
            pool: Pool::new(config, grace),
            flights: Mutex::default(),
            revision: AtomicI64::new(0),
            misses: Counts::new(1),
        }))
    }

    /// The highest change-log position seen so far.
    pub fn revision(&self) -> Revision {
        Revision(self.0.revision.load(Ordering::Relaxed))
    }

    /// Lets go of what is too old for everything, and only takes up room. To be done now and then.
    pub fn sweep(&self) {
        self.0.pool.sweep(self.0.clock.monotonic());
    }
}

impl<L: Lookup> Inner<L> {
    fn recall(&self, id: &L::Id) -> Recalled<L::Record> {
        let now = self.clock.monotonic();
        let world = || (self.outlook)(now);
        match self.pool.recall(id, now, world) {
            Recalled::Nothing if self.pool.take_ahead(id, || self.store.table().digests(id)) => {
                self.pool.recall(id, now, world)
            }
            recalled => recalled,
        }
    }

    /// Fresh answers are most answers, and leave no trace: nothing is shared on their path.
    fn note_age(&self, knowledge: &Knowledge<L::Record>) {
        if matches!(knowledge.provenance.source, Source::Refreshing | Source::Stale) {
            self.oldest.note(knowledge.provenance.age, self.clock.monotonic());
        }
    }

    fn flights(&self) -> MutexGuard<'_, Flights<L>> {
        // Every change to the map is one call that cannot be left half-done.
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads up to [`MAX_LOOKUP`] records, and remembers what news have not overtaken.
    async fn load(&self, known: bool, ids: &Arc<[L::Id]>) -> Outcomes<L::Record> {
        let (began, asked_at) = (self.pool.epoch(), self.clock.monotonic());
        // What is older than what was known before it was asked for is not believed.
        let known_before = self.known.position();
        let found = self.store.lookup(known, Arc::clone(ids)).await?;
        let now = self.clock.monotonic();
        let loaded_at = self.known.counts_from(asked_at)?;
        let stands_still = loaded_at < asked_at;
        let settle = |(id, (read, revision)): (&L::Id, Read<L::Record>)| {
            self.revision.fetch_max(revision.0, Ordering::Relaxed);
            let record = read.map_err(|reason| {
                let overtaken = match &reason {
                    NotKnown::Unreadable(_) => self.pool.not_read(id, began, revision),
                    NotKnown::Hidden(_) => None,
                };
                NotRead { reason, overtaken }
            })?;
            if let Some(record) = &record {
                self.store.table().used(record);
            }
            let lags = revision < known_before;
            let loaded = Loaded { record, revision, loaded_at, began, lags };
            let settled = self.pool.settle(id, loaded, L::drawn(id), now);
            Ok(if stands_still { self.pool.as_of_then(settled) } else { settled })
        };
        Ok(ids.iter().zip(found).map(settle).collect())
    }
}

impl<L: Lookup> RecordSource for Cached<L> {
    type Id = L::Id;
    type Record = L::Record;

    fn recall(&self, id: &L::Id) -> Option<Knowledge<L::Record>> {
        let knowledge = match self.0.recall(id) {
            Recalled::Known(knowledge) => knowledge,
            Recalled::Due(knowledge) => {
                // The load runs by itself; nobody waits for it here.
                drop(self.join(std::slice::from_ref(id), true, &Asker::OURSELVES));
                knowledge
            }
            Recalled::Nothing => return None,
        };
        self.0.note_age(&knowledge);
        Some(knowledge)
    }

    async fn fetch(&self, ids: &[L::Id], ask: &OnBehalf) -> Vec<Result<Knowledge<L::Record>, StoreError>> {
        // Here, since a fast path may have looked into memory before.
        self.0.misses.add(0, ids.len() as u64);
        let asked = self.0.pool.epoch();
        let waits = self.join(ids, false, &ask.asker);
        // All at once: one that has to be asked for again must not hold up the others, which may have to be too.
        let answers = ids.iter().zip(waits).map(async |(id, wait)| {
            let outcome = self.await_answer(id, wait, asked, ask).await;
            let outcome =
                outcome.or_else(|error| self.0.pool.stopgap(id, self.0.clock.monotonic()).ok_or(error));
            outcome.inspect(|knowledge| self.0.note_age(knowledge))
        });
        join_all(answers).await
    }

    async fn verify(&self, id: &L::Id, deadline: Instant) -> Result<Knowledge<L::Record>, StoreError> {
        let asked = self.0.pool.epoch();
        match self.join(std::slice::from_ref(id), true, &Asker::OURSELVES).pop() {
            Some(wait) => self.await_answer(id, wait, asked, &deadline.into()).await,
            None => Err(StoreError::new(FailureKind::Broken, "a load did not depart")),
        }
    }
}

impl<L: Lookup> Forget for Cached<L> {
    fn heard(&self, news: &BySubject<News>) {
        self.0.pool.hear(news);
    }

    fn verify_all(&self) {
        self.0.pool.verify_all();
    }

    fn hold(&self, ends: &BySubject<News>) {
        self.0.pool.hold(ends);
    }
}

impl<L: Lookup> ForgetAbsence<L::Id> for Cached<L> {
    fn added(&self, ids: &[L::Id], revision: Option<Revision>) {
        self.0.pool.added(ids, revision);
    }
}
