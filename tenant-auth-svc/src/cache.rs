//! Memory in front of the database: what is found there, and the absence of what is not.
//!
//! `pool` is what is remembered, `fence` keeps changes and loads apart, `flight` is a load that many wait for.

pub mod batch_lookup;
#[cfg(test)]
mod bounds;
mod change_effects;
mod changes;
mod entry;
mod eviction;
mod fence;
mod in_flight;
mod inspect;
mod loading;
pub mod lookup;
pub mod oldest_answer;
mod pool;
mod preload;
mod recent_writes;
#[cfg(test)]
mod stalled_copy;
mod statistics;
mod sync;
mod weight;

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

use self::{
    batch_lookup::{BatchLookup, LookupOutcome},
    in_flight::{InFlightLoad, LoadOutcomes, UnreadableOutcome},
    lookup::Lookup,
    oldest_answer::OldestAnswerAge,
    pool::{LoadedRecord, Pool, PoolLookup},
};
pub use self::{
    preload::PendingRead,
    statistics::{CacheCoverage, CacheSize},
};
use crate::{
    domain::{
        cache_policy::{CachePolicy, UpstreamHealth},
        change::{ChangeEvent, Invalidate, InvalidateNegative, PerSubject},
        clock::SharedClock,
        grace::Grace,
        guess_limiter::{GuessLimiter, GuessOrigin, LoadContext},
        known_database::KnownDatabase,
        record_source::{CachedRecord, RecordSource},
        store::{FailureKind, StoreError, UnknownReason},
        verdict::{Revision, Source},
    },
    instruments::counts::Counts,
};

/// What fits into one place of memory, in bytes: nearly every record does, with what is needed for keeping it. Longer ones take
/// several, so that places bound bytes.
pub const WEIGHT_UNIT_BYTES: usize = 1_024;
/// What an absence takes at most, in bytes.
pub const MAX_NEGATIVE_ENTRY_BYTES: usize = 256;
/// The most places for what this replica has written lately, of keys and of sessions each: more than it can write in the time for
/// which that is kept, one call after the other.
pub const MAX_RECENT_WRITES: u64 = 30_000;

/// The size and the policy of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// The most records, in units of [`WEIGHT_UNIT_BYTES`].
    pub max_records: u64,
    /// The most negative entries.
    pub max_negative_entries: u64,
    /// How long each may be used.
    pub policy: CachePolicy,
}

/// Tells how the database and its change feed fare.
pub type HealthProbe = Box<dyn Fn(Duration) -> UpstreamHealth + Send + Sync>;

/// What a memory goes by.
pub struct CacheContext {
    /// What time it is.
    pub clock: SharedClock,
    /// For how long it answers in an outage.
    pub grace: Arc<Grace>,
    /// Tells of outages.
    pub health: HealthProbe,
    /// The database that is believed.
    pub known: Arc<KnownDatabase>,
    /// Is told how old the answers are that are no longer fresh.
    pub oldest_answer: Arc<OldestAnswerAge>,
    /// How many guesses may be made.
    pub guess_limiter: Arc<GuessLimiter>,
}

/// A memory in front of what can be looked up. Cheap to clone; clones share everything.
pub struct RecordCache<L: Lookup>(Arc<CacheInner<L>>);

/// The loads under way.
type InFlightLoads<L> = HashMap<<L as Lookup>::Id, InFlightLoad<<L as Lookup>::Id, <L as Lookup>::Record>>;

struct CacheInner<L: Lookup> {
    store: BatchLookup<L>,
    clock: SharedClock,
    health: HealthProbe,
    known: Arc<KnownDatabase>,
    oldest_answer: Arc<OldestAnswerAge>,
    guess_limiter: Arc<GuessLimiter>,
    pool: Pool<L::Id, L::Record>,
    in_flight: Mutex<InFlightLoads<L>>,
    revision: AtomicI64,
    /// Look-ups that memory could not answer, in the one slot.
    misses: Counts,
}

impl<L: Lookup> Clone for RecordCache<L> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<L: Lookup> fmt::Debug for RecordCache<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").finish_non_exhaustive()
    }
}

impl<L: Lookup> RecordCache<L> {
    /// Remembers what `store` says.
    pub fn new(store: BatchLookup<L>, config: CacheConfig, surroundings: CacheContext) -> Self {
        let CacheContext { clock, grace, health: outlook, known, oldest_answer, guess_limiter: guesses } =
            surroundings;
        Self(Arc::new(CacheInner {
            store,
            clock,
            health: outlook,
            known,
            oldest_answer,
            guess_limiter: guesses,
            pool: Pool::new(config, grace),
            in_flight: Mutex::default(),
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

impl<L: Lookup> CacheInner<L> {
    fn get(&self, id: &L::Id) -> PoolLookup<L::Record> {
        let now = self.clock.monotonic();
        let world = || (self.health)(now);
        match self.pool.get(id, now, world) {
            PoolLookup::Miss if self.pool.promote_preloaded(id, || self.store.table().digests(id)) => {
                self.pool.get(id, now, world)
            }
            recalled => recalled,
        }
    }

    /// Fresh answers are most answers, and leave no trace: nothing is shared on their path.
    fn record_age(&self, knowledge: &CachedRecord<L::Record>) {
        if matches!(knowledge.provenance.source, Source::Refreshing | Source::Stale) {
            self.oldest_answer.record(knowledge.provenance.age, self.clock.monotonic());
        }
    }

    fn lock_in_flight(&self) -> MutexGuard<'_, InFlightLoads<L>> {
        // Every change to the map is one call that cannot be left half-done.
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads up to [`MAX_IDS_PER_LOOKUP`] records, and remembers what news have not overtaken.
    async fn load(&self, known: bool, ids: &Arc<[L::Id]>) -> LoadOutcomes<L::Record> {
        let (began, asked_at) = (self.pool.epoch(), self.clock.monotonic());
        // What is older than what was known before it was asked for is not believed.
        let known_before = self.known.position();
        let found = self.store.lookup(known, Arc::clone(ids)).await?;
        let now = self.clock.monotonic();
        let loaded_at = self.known.effective_read_time(asked_at)?;
        let stands_still = loaded_at < asked_at;
        let settle = |(id, (read, revision)): (&L::Id, LookupOutcome<L::Record>)| {
            self.revision.fetch_max(revision.0, Ordering::Relaxed);
            let record = read.map_err(|reason| {
                let overtaken = match &reason {
                    UnknownReason::Unreadable(_) => self.pool.remove_unreadable(id, began, revision),
                    UnknownReason::Inconclusive(_) => None,
                };
                UnreadableOutcome { reason, superseded_at: overtaken }
            })?;
            if let Some(record) = &record {
                self.store.table().on_loaded(record);
            }
            let lags = revision < known_before;
            let loaded = LoadedRecord { record, revision, loaded_at, epoch: began, is_lagging: lags };
            let settled = self.pool.apply_load(id, loaded, L::jitter_seed(id), now);
            Ok(if stands_still { self.pool.as_stale(settled, now) } else { settled })
        };
        Ok(ids.iter().zip(found).map(settle).collect())
    }
}

impl<L: Lookup> RecordSource for RecordCache<L> {
    type Id = L::Id;
    type Record = L::Record;

    fn get(&self, id: &L::Id) -> Option<CachedRecord<L::Record>> {
        let knowledge = match self.0.get(id) {
            PoolLookup::Hit(knowledge) => knowledge,
            PoolLookup::HitNeedsReload(knowledge) => {
                // The load runs by itself; nobody waits for it here.
                drop(self.join_or_start(std::slice::from_ref(id), true, &GuessOrigin::INTERNAL));
                knowledge
            }
            PoolLookup::Miss => return None,
        };
        self.0.record_age(&knowledge);
        Some(knowledge)
    }

    async fn load(
        &self,
        ids: &[L::Id],
        ask: &LoadContext,
    ) -> Vec<Result<CachedRecord<L::Record>, StoreError>> {
        // Here, since a fast path may have looked into memory before.
        self.0.misses.add(0, ids.len() as u64);
        let asked = self.0.pool.epoch();
        let waits = self.join_or_start(ids, false, &ask.origin);
        // All at once: one that has to be asked for again must not hold up the others, which may have to be too.
        let answers = ids.iter().zip(waits).map(async |(id, wait)| {
            let outcome = self.wait_for_answer(id, wait, asked, ask).await;
            let outcome = outcome
                .or_else(|error| self.0.pool.stale_fallback(id, self.0.clock.monotonic()).ok_or(error));
            outcome.inspect(|knowledge| self.0.record_age(knowledge))
        });
        join_all(answers).await
    }

    async fn revalidate(&self, id: &L::Id, deadline: Instant) -> Result<CachedRecord<L::Record>, StoreError> {
        let asked = self.0.pool.epoch();
        match self.join_or_start(std::slice::from_ref(id), true, &GuessOrigin::INTERNAL).pop() {
            Some(wait) => self.wait_for_answer(id, wait, asked, &deadline.into()).await,
            None => Err(StoreError::new(FailureKind::Internal, "a load did not depart")),
        }
    }
}

impl<L: Lookup> Invalidate for RecordCache<L> {
    fn apply(&self, news: &PerSubject<ChangeEvent>) {
        self.0.pool.apply(news);
    }

    fn require_revalidation(&self) {
        self.0.pool.require_revalidation();
    }

    fn hold_revocations(&self, ends: &PerSubject<ChangeEvent>) {
        self.0.pool.hold_revocations(ends);
    }
}

impl<L: Lookup> InvalidateNegative<L::Id> for RecordCache<L> {
    fn invalidate_negative(&self, ids: &[L::Id], revision: Option<Revision>) {
        self.0.pool.invalidate_negative(ids, revision);
    }
}
