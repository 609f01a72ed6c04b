//! The record cache in front of the database: records that exist, and negative entries for ids that do not.
//!
//! `pool` holds the entries, `fence` orders loads against changes, `in_flight` shares one load between all
//! that wait for it.

pub mod batch_lookup;
#[cfg(test)]
mod bounds;
mod change_effects;
mod changes;
mod entry;
mod fence;
mod in_flight;
mod insertion;
mod inspect;
mod load;
mod loaded;
mod loading;
pub mod lookup;
pub mod oldest_answer;
mod pool;
mod preload;
mod recent_writes;
mod shard;
#[cfg(test)]
mod stalled_read_replica;
mod statistics;
#[cfg(test)]
mod subject_changes;
mod subjects;
mod table;
#[cfg(test)]
mod table_model;
mod weight;

/// The primitives of the fence and the pools. `tests/interleavings` compiles the same source files with those of a
/// scheduler that explores their interleavings.
mod sync {
    pub(super) use std::sync::{
        Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    };
}

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
    batch_lookup::BatchLookup,
    in_flight::InFlightLoad,
    lookup::Lookup,
    oldest_answer::OldestAnswerAge,
    pool::{Pool, PoolLookup},
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
        known_database::KnownDatabase,
        record_source::{CachedRecord, RecordSource},
        store::{FailureKind, StoreError},
        unknown_lookup_limiter::{LoadContext, LookupOrigin, UnknownLookupLimiter},
        verdict::{Revision, Source},
    },
    instruments::counts::Counts,
};

/// Size of one weight unit, in bytes. Nearly every record fits into one, including the bookkeeping for it. A
/// longer record takes several units, so a limit in units is a limit in bytes.
pub const WEIGHT_UNIT_BYTES: usize = 1_024;
/// Maximum size of a negative entry with a short id, in bytes. One with a longer id counts as several entries.
pub const MAX_NEGATIVE_ENTRY_BYTES: usize = 448;
/// Maximum number of weight units for this replica's recent writes, for keys and for sessions each. It is
/// more than the replica can write, one call after another, while a write is retained.
pub const MAX_RECENT_WRITES: u64 = 30_000;

/// The size and the policy of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// Maximum size of all records, in units of [`WEIGHT_UNIT_BYTES`].
    pub max_records: u64,
    /// Maximum number of negative entries.
    pub max_negative_entries: u64,
    /// How long entries may be used.
    pub policy: CachePolicy,
}

/// Returns the health of the database and of its change feed.
pub type HealthProbe = Box<dyn Fn(Duration) -> UpstreamHealth + Send + Sync>;

/// Dependencies of a cache.
pub struct CacheContext {
    /// Time source.
    pub clock: SharedClock,
    /// How long stale records are served in an outage.
    pub grace: Arc<Grace>,
    /// Health of the database and of the change feed.
    pub health: HealthProbe,
    /// The trusted database.
    pub known: Arc<KnownDatabase>,
    /// Records the age of answers that are no longer fresh.
    pub oldest_answer: Arc<OldestAnswerAge>,
    /// Limits lookups of unknown ids.
    pub unknown_lookup_limiter: Arc<UnknownLookupLimiter>,
}

/// A cache in front of a [`Lookup`]. Cheap to clone; clones share all state.
pub struct RecordCache<L: Lookup>(Arc<CacheInner<L>>);

/// The loads in flight, by id.
type InFlightLoads<L> = HashMap<<L as Lookup>::Id, InFlightLoad<<L as Lookup>::Id, <L as Lookup>::Record>>;

struct CacheInner<L: Lookup> {
    store: BatchLookup<L>,
    clock: SharedClock,
    health: HealthProbe,
    known: Arc<KnownDatabase>,
    oldest_answer: Arc<OldestAnswerAge>,
    unknown_lookup_limiter: Arc<UnknownLookupLimiter>,
    pool: Pool<L::Id, L::Record>,
    in_flight: Mutex<InFlightLoads<L>>,
    revision: AtomicI64,
    /// Lookups that the cache could not answer, in slot 0.
    misses: Counts,
}

impl<L: Lookup> Clone for RecordCache<L> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<L: Lookup> fmt::Debug for RecordCache<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordCache").finish_non_exhaustive()
    }
}

impl<L: Lookup> RecordCache<L> {
    /// Creates a cache for the records of `store`.
    pub fn new(store: BatchLookup<L>, config: CacheConfig, context: CacheContext) -> Self {
        let CacheContext { clock, grace, health, known, oldest_answer, unknown_lookup_limiter } = context;
        Self(Arc::new(CacheInner {
            store,
            clock,
            health,
            known,
            oldest_answer,
            unknown_lookup_limiter,
            pool: Pool::new(config, grace),
            in_flight: Mutex::default(),
            revision: AtomicI64::new(0),
            misses: Counts::new(1),
        }))
    }

    /// Returns the highest change-log position seen so far.
    pub fn revision(&self) -> Revision {
        Revision(self.0.revision.load(Ordering::Relaxed))
    }

    /// Removes entries that are too old to be served. Call it periodically.
    pub fn sweep(&self) {
        self.0.pool.sweep(self.0.clock.monotonic());
    }
}

impl<L: Lookup> CacheInner<L> {
    fn get(&self, id: &L::Id) -> PoolLookup<L::Record> {
        let now = self.clock.monotonic();
        let health = || (self.health)(now);
        match self.pool.get(id, now, health) {
            PoolLookup::Miss if self.pool.promote_preloaded(id, || self.store.table().digests(id)) => {
                self.pool.get(id, now, health)
            }
            lookup => lookup,
        }
    }

    /// Fresh answers are the common case. Their path writes no shared state.
    fn record_age(&self, cached: &CachedRecord<L::Record>) {
        if matches!(cached.provenance.source, Source::Refreshing | Source::Stale) {
            self.oldest_answer.record(cached.provenance.age, self.clock.monotonic());
        }
    }

    fn lock_in_flight(&self) -> MutexGuard<'_, InFlightLoads<L>> {
        // Every change to the map is a single call, so a panic leaves it consistent.
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L: Lookup> RecordSource for RecordCache<L> {
    type Id = L::Id;
    type Record = L::Record;

    fn get(&self, id: &L::Id) -> Option<CachedRecord<L::Record>> {
        let cached = match self.0.get(id) {
            PoolLookup::Hit(cached) => cached,
            PoolLookup::HitNeedsReload(cached) => {
                // The load runs in its own task; this caller does not wait for it.
                drop(self.join_or_start(std::slice::from_ref(id), true, &LookupOrigin::INTERNAL));
                cached
            }
            PoolLookup::Miss => return None,
        };
        self.0.record_age(&cached);
        Some(cached)
    }

    async fn load(
        &self,
        ids: &[L::Id],
        context: &LoadContext,
    ) -> Vec<Result<CachedRecord<L::Record>, StoreError>> {
        // Misses are counted here and not in `get`, because the fast path may have called `get` for the same
        // request.
        self.0.misses.add(0, ids.len() as u64);
        let asked = self.0.pool.epoch();
        let waits = self.join_or_start(ids, false, &context.origin);
        // Concurrently: an id that has to be loaded again must not delay the others, which may have to be as
        // well.
        let answers = ids.iter().zip(waits).map(async |(id, wait)| {
            let outcome = self.wait_for_answer(id, wait, asked, context).await;
            let outcome = outcome
                .or_else(|error| self.0.pool.stale_fallback(id, self.0.clock.monotonic()).ok_or(error));
            outcome.inspect(|cached| self.0.record_age(cached))
        });
        join_all(answers).await
    }

    async fn revalidate(&self, id: &L::Id, deadline: Instant) -> Result<CachedRecord<L::Record>, StoreError> {
        let asked = self.0.pool.epoch();
        match self.join_or_start(std::slice::from_ref(id), true, &LookupOrigin::INTERNAL).pop() {
            Some(wait) => self.wait_for_answer(id, wait, asked, &deadline.into()).await,
            None => Err(StoreError::new(FailureKind::Internal, "a load did not start")),
        }
    }
}

impl<L: Lookup> Invalidate for RecordCache<L> {
    fn apply(&self, changes: &PerSubject<ChangeEvent>) {
        self.0.pool.apply(changes, self.0.clock.now());
    }

    fn require_revalidation(&self) {
        self.0.pool.require_revalidation();
    }

    fn retain_revocations(&self, revocations: &PerSubject<ChangeEvent>) {
        self.0.pool.retain_revocations(revocations);
    }
}

impl<L: Lookup> InvalidateNegative<L::Id> for RecordCache<L> {
    fn invalidate_negative(&self, ids: &[L::Id], revision: Option<Revision>) {
        self.0.pool.invalidate_negative(ids, revision);
    }
}
