//! Memory in front of the database: what is found there, and the absence of what is not.
//!
//! `pool` is what is remembered, `fence` keeps changes and loads apart, `flight` is a load that many wait for.

mod entry;
mod evicted;
mod fates;
mod fence;
mod figures;
mod flight;
pub mod oldest;
mod pool;
mod sync;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

pub use self::figures::{Coverage, Size};
use self::{
    fence::Epoch,
    flight::{Flight, Outcomes},
    oldest::Oldest,
    pool::{Loaded, Pool, Recalled},
};
use super::{
    coalesced::{Coalesced, Outcome},
    lookup::Lookup,
};
use crate::domain::{
    change::{BySubject, Forget, ForgetAbsence, News},
    clock::SharedClock,
    freshness::{Lifetimes, World},
    grace::Grace,
    knowledge::{Knowledge, RecordSource},
    store::{FailureKind, MAX_LOOKUP, StoreError, StoredDigest},
    verdict::{Revision, Source},
};
use crate::measure::{counts::Counts, spans::Within};

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
}

/// Tells how the database and its change feed fare.
pub type Outlook = Box<dyn Fn(Duration) -> World + Send + Sync>;

/// A memory in front of what can be looked up. Cheap to clone; clones share everything.
pub struct Cached<L: Lookup>(Arc<Inner<L>>);

/// The loads under way.
type Flights<L> = HashMap<<L as Lookup>::Id, Flight<<L as Lookup>::Id, <L as Lookup>::Record>>;

struct Inner<L: Lookup> {
    store: Coalesced<L>,
    clock: SharedClock,
    outlook: Outlook,
    oldest: Arc<Oldest>,
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
    /// Remembers what `store` says, and answers with it in an outage for as long as `grace` allows; `oldest` is told how old the answers are that are no longer fresh.
    pub fn new(
        store: Coalesced<L>,
        config: CacheConfig,
        clock: SharedClock,
        grace: Arc<Grace>,
        outlook: Outlook,
        oldest: Arc<Oldest>,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            clock,
            outlook,
            oldest,
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

    /// Before a read ahead: the moment and the epoch from which its answer counts.
    pub fn reading_ahead(&self) -> ReadingAhead {
        ReadingAhead { loaded_at: self.0.clock.monotonic(), began: self.0.pool.epoch() }
    }

    /// Takes in what was read ahead.
    pub fn read_ahead(
        &self,
        reading: ReadingAhead,
        revision: Revision,
        records: Vec<(StoredDigest, L::Record)>,
    ) {
        let ReadingAhead { loaded_at, began } = reading;
        for (digest, record) in records {
            let loaded = Loaded { record: Some(record), revision, loaded_at, began };
            self.0.pool.settle_ahead(digest, loaded);
        }
    }
}

/// A read ahead that is under way.
#[derive(Clone, Copy, Debug)]
pub struct ReadingAhead {
    loaded_at: Duration,
    began: Epoch,
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
        let (began, loaded_at) = (self.pool.epoch(), self.clock.monotonic());
        let found = self.store.lookup(known, Arc::clone(ids)).await?;
        let now = self.clock.monotonic();
        let settle = |(id, (outcome, revision)): (&L::Id, Outcome<L::Record>)| {
            self.revision.fetch_max(revision.0, Ordering::Relaxed);
            let record = outcome?;
            if let Some(record) = &record {
                self.store.table().used(record);
            }
            Ok(self.pool.settle(id, Loaded { record, revision, loaded_at, began }, L::drawn(id), now))
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
                drop(self.join(std::slice::from_ref(id), true));
                knowledge
            }
            Recalled::Nothing => {
                self.0.misses.add(0, 1);
                return None;
            }
        };
        self.0.note_age(&knowledge);
        Some(knowledge)
    }

    async fn fetch(&self, ids: &[L::Id], deadline: Instant) -> Vec<Result<Knowledge<L::Record>, StoreError>> {
        let asked = self.0.pool.epoch();
        let waits = self.join(ids, false);
        let mut outcomes = Vec::with_capacity(ids.len());
        for (id, wait) in ids.iter().zip(waits) {
            let outcome = self.await_answer(id, wait, asked, deadline).await;
            let outcome =
                outcome.or_else(|error| self.0.pool.stopgap(id, self.0.clock.monotonic()).ok_or(error));
            outcomes.push(outcome.inspect(|knowledge| self.0.note_age(knowledge)));
        }
        outcomes
    }

    async fn verify(&self, id: &L::Id, deadline: Instant) -> Result<Knowledge<L::Record>, StoreError> {
        let asked = self.0.pool.epoch();
        match self.join(std::slice::from_ref(id), true).pop() {
            Some(wait) => self.await_answer(id, wait, asked, deadline).await,
            None => Err(StoreError::new(FailureKind::Broken, "a load did not depart")),
        }
    }
}

enum Wait<L: Lookup> {
    Known(Knowledge<L::Record>),
    For(Flight<L::Id, L::Record>),
}

impl<L: Lookup> Cached<L> {
    /// Waits for an answer that reflects everything heard of before it was `asked` for.
    async fn await_answer(
        &self,
        id: &L::Id,
        mut wait: Wait<L>,
        asked: Epoch,
        deadline: Instant,
    ) -> Result<Knowledge<L::Record>, StoreError> {
        loop {
            let flight = match wait {
                Wait::Known(knowledge) => return Ok(knowledge),
                Wait::For(flight) => flight,
            };
            let settled = flight.land(id, deadline).await?;
            if settled.overtaken.is_none_or(|overtaken| asked < overtaken) {
                return Ok(settled.knowledge);
            }
            // It joined a load that had begun before a change which was heard of before it asked.
            let Some(again) = self.join(std::slice::from_ref(id), false).pop() else {
                return Ok(settled.knowledge);
            };
            wait = again;
        }
    }

    /// Finds for each id the load under way, or starts one; ids that nobody has asked for yet share theirs.
    /// `anyway`: even if memory has an answer.
    fn join(&self, ids: &[L::Id], anyway: bool) -> Vec<Wait<L>> {
        let mut flights = self.0.flights();
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        let waits: Vec<Option<Wait<L>>> = ids
            .iter()
            .map(|id| {
                if let Some(flight) = flights.get(id) {
                    return Some(Wait::For(flight.clone()));
                }
                // A load may have ended between the look into memory and this one.
                match self.0.recall(id) {
                    Recalled::Known(knowledge) if !anyway => return Some(Wait::Known(knowledge)),
                    Recalled::Known(_) | Recalled::Due(_) | Recalled::Nothing => {}
                }
                let lane = if self.0.pool.is_known(id) { &mut known } else { &mut unknown };
                lane.push(id.clone());
                None
            })
            .collect();
        for (is_known, mut missing) in [(true, known), (false, unknown)] {
            missing.sort_unstable();
            missing.dedup();
            for together in missing.chunks(MAX_LOOKUP) {
                let flight = self.depart(is_known, together.into());
                flights.extend(together.iter().map(|id| (id.clone(), flight.clone())));
            }
        }
        let departed = |id| Wait::For(flights[id].clone());
        ids.iter().zip(waits).map(|(id, wait)| wait.unwrap_or_else(|| departed(id))).collect()
    }

    /// Starts a load in a task of its own: a caller that gives up must not end it for the others.
    fn depart(&self, known: bool, ids: Arc<[L::Id]>) -> Flight<L::Id, L::Record> {
        let inner = Arc::clone(&self.0);
        // On behalf of the one who asked first; the others wait for a span that is not theirs.
        let load = Within::current().run({
            let ids = Arc::clone(&ids);
            async move {
                let _landed = Landed { inner: &inner, ids: &ids };
                inner.load(known, &ids).await
            }
        });
        Flight::depart(ids, load)
    }
}

/// Takes a load off the list when it ends, however it ends.
struct Landed<'a, L: Lookup> {
    inner: &'a Inner<L>,
    ids: &'a [L::Id],
}

impl<L: Lookup> Drop for Landed<'_, L> {
    fn drop(&mut self) {
        let mut flights = self.inner.flights();
        for id in self.ids {
            flights.remove(id);
            self.inner.pool.release_reload(id);
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
}

impl<L: Lookup> ForgetAbsence<L::Id> for Cached<L> {
    fn added(&self, ids: &[L::Id]) {
        self.0.pool.added(ids);
    }
}
