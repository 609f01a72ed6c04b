//! The entries of the cache: records, negative entries, and preloaded records.
//!
//! Nothing here blocks on I/O. The tables and moka bound the size and evict entries that are not used. The
//! age of an entry, the injected clock and the upstream health decide whether it may be served
//! (`domain::cache_policy`). Negative entries have a pool of their own, so that a flood of unknown keys
//! cannot evict known ones, and are never served beyond their short time to live, by which moka removes them.

use std::{hash::Hash, sync::Arc, time::Duration};

use moka::{notification::RemovalCause, sync::Cache};

use super::{
    CacheConfig,
    entry::{CacheEntry, ReadPoint},
    fence::{Epoch, Fence},
    recent_writes::RecentWrites,
    subjects::{Revocations, Subjects, Unreflected},
    sync::AtomicBool,
    table::Table,
    weight,
};
use crate::{
    domain::{
        cache_policy::{CacheDecision, Lifetimes, UpstreamHealth},
        change::{CacheableRecord, ChangeKind},
        grace::{Grace, MAX_GRACE},
        record_source::CachedRecord,
        verdict::Source,
    },
    instruments::counts::Counter,
};

/// The entries by id, and the fence that orders loads against changes.
pub(super) struct Pool<I, R> {
    pub(super) config: CacheConfig,
    pub(super) grace: Arc<Grace>,
    pub(super) fence: Fence,
    /// Records by their id; a preloaded one by its digest in the database, which is another one if it has a pepper,
    /// until it is first requested.
    pub(super) records: Table<I, R>,
    pub(super) negative: Cache<I, ReadPoint>,
    /// Whether a record was ever preloaded. If not, no digest needs to be computed for a lookup.
    pub(super) has_preloaded: AtomicBool,
    /// What many entries depend on.
    pub(super) subjects: Subjects,
    /// Recent writes of this replica with their positions in the change log: a result that was read at an
    /// earlier position is not trusted.
    pub(super) recent_writes: RecentWrites<I, R>,
    /// Records, and negative entries, that were evicted because the cache was full.
    pub(super) evicted: (Counter, Arc<Counter>),
}

/// The result of a lookup in the cache.
#[derive(Debug)]
pub(super) enum PoolLookup<R> {
    Hit(CachedRecord<R>),
    /// The record may be served. A reload is due, and the caller has claimed it.
    HitNeedsReload(CachedRecord<R>),
    Miss,
}

impl<I, R> Pool<I, R>
where
    I: Clone + Eq + Hash + Send + Sync + 'static,
    R: CacheableRecord<Id = I>,
{
    pub(super) fn new(config: CacheConfig, grace: Arc<Grace>) -> Self {
        let evicted_negative = Arc::new(Counter::default());
        let counted = Arc::clone(&evicted_negative);
        Self {
            config,
            grace,
            fence: Fence::new(),
            records: Table::new(config.max_records),
            negative: Cache::builder()
                .max_capacity(config.max_negative_entries)
                .weigher(|id, _| weight::negative_weight_of::<R>(id))
                .time_to_live(config.policy.negative_ttl * 2)
                .eviction_listener(move |_, _, cause| {
                    if cause == RemovalCause::Size {
                        counted.increment();
                    }
                })
                .build(),
            has_preloaded: AtomicBool::new(false),
            subjects: Subjects::default(),
            recent_writes: RecentWrites::new(),
            evicted: (Counter::default(), evicted_negative),
        }
    }

    /// Returns the epoch. Take it before a read starts, and when a request arrives.
    pub(super) fn epoch(&self) -> Epoch {
        self.fence.epoch()
    }

    /// Returns how many records and how many negative entries were evicted because the cache was full.
    pub(super) fn evicted(&self) -> (u64, u64) {
        (self.evicted.0.get(), self.evicted.1.get())
    }

    /// Returns the cached record of an id if it may be served.
    pub(super) fn get(
        &self,
        id: &I,
        now: Duration,
        health: impl FnOnce() -> UpstreamHealth,
    ) -> PoolLookup<R> {
        if let Some(lookup) = self.records.get(id, |entry| self.look_at(entry, now, health)) {
            return lookup;
        }
        let negative_ttl = self.config.policy.negative_ttl;
        match self.negative.get(id) {
            Some(read) if read.age(now) < negative_ttl && self.fence.is_negative_valid(read.epoch) => {
                let policy = &self.config.policy;
                PoolLookup::Hit(read.answer(None, (now, negative_ttl), Source::Negative, policy))
            }
            _ => PoolLookup::Miss,
        }
    }

    fn look_at(
        &self,
        entry: &CacheEntry<R>,
        now: Duration,
        health: impl FnOnce() -> UpstreamHealth,
    ) -> PoolLookup<R> {
        entry.record_use();
        let Some((decision, revocations)) = self.decide(entry, now, health()) else {
            return PoolLookup::Miss;
        };
        let answer = |source| self.cached_record(entry, &revocations, now, source);
        match decision {
            CacheDecision::Serve(source) => PoolLookup::Hit(answer(source)),
            CacheDecision::ServeAndReload(source) if entry.claim_reload() => {
                PoolLookup::HitNeedsReload(answer(source))
            }
            CacheDecision::ServeAndReload(source) => PoolLookup::Hit(answer(source)),
            CacheDecision::Reload => PoolLookup::Miss,
        }
    }

    pub(super) fn cached_record(
        &self,
        entry: &CacheEntry<R>,
        revocations: &[ChangeKind],
        now: Duration,
        source: Source,
    ) -> CachedRecord<R> {
        entry.cached_record(revocations, now, source, &self.config.policy)
    }

    /// Decides about an entry, and returns the revocations that apply to it; `None` if it does not count any more.
    pub(super) fn decide(
        &self,
        entry: &CacheEntry<R>,
        now: Duration,
        health: UpstreamHealth,
    ) -> Option<(CacheDecision, Revocations)> {
        let revocations = self.revocations(entry)?;
        let is_outdated =
            entry.is_outdated || !revocations.is_empty() || self.fence.needs_revalidation(entry.read.epoch);
        let decision = self.lifetimes(entry, now).decide(entry.read.age(now), is_outdated, health);
        Some((decision, revocations))
    }

    /// Returns the revocations of an entry's subjects that its record does not show; `None` if the entry does not count
    /// any more.
    pub(super) fn revocations(&self, entry: &CacheEntry<R>) -> Option<Revocations> {
        match entry.unreflected(&self.fence) {
            Unreflected::Nothing => Some(Revocations::new()),
            Unreflected::Revoked(kinds) => Some(kinds),
            Unreflected::Changed => None,
        }
    }

    fn lifetimes(&self, entry: &CacheEntry<R>, now: Duration) -> Lifetimes {
        let policy = &self.config.policy;
        policy.lifetimes(entry.fresh(policy), self.grace.at(now))
    }

    /// Returns the record to serve as stale if the database gave no answer.
    pub(super) fn stale_fallback(&self, id: &I, now: Duration) -> Option<CachedRecord<R>> {
        let usable = |entry: &CacheEntry<R>| {
            let revocations = self.revocations(entry)?;
            self.lifetimes(entry, now)
                .usable_when_stale(entry.read.age(now))
                .then(|| self.cached_record(entry, &revocations, now, Source::Stale))
        };
        self.records.get(id, usable).flatten()
    }

    /// Releases the claim on a reload. If it inserted nothing, the next caller claims another one.
    pub(super) fn release_reload(&self, id: &I) {
        self.records.peek(id, CacheEntry::release_reload);
    }

    /// Removes records that are too old to be served in any case, and what no entry depends on.
    pub(super) fn sweep(&self, now: Duration) {
        let is_usable = |entry: &CacheEntry<R>| entry.read.age(now) <= MAX_ENTRY_AGE;
        self.records.retain(is_usable);
        self.subjects.sweep();
    }
}

/// The maximum age of an entry. The cache policy stops serving it well before. The configured grace does not
/// matter: an operator can set a longer one during an outage, and the entries must still be cached then.
const MAX_ENTRY_AGE: Duration = MAX_GRACE;
