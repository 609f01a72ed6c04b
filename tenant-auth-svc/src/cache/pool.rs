//! The entries of the cache: records, negative entries, and preloaded records.
//!
//! Nothing here blocks on I/O. quick_cache and moka bound the size and evict entries that are not used. The
//! age of an entry, the injected clock and the upstream health decide whether it may be served
//! (`domain::cache_policy`). Negative entries have a pool of their own, so that a flood of unknown keys
//! cannot evict known ones, and are never served beyond their short time to live.
//!
//! Every request reads the pool of records. For many keys quick_cache is several times faster than moka, with
//! a fraction of the memory. Negative entries and preloaded records expire by time, which moka supports.

use std::{hash::Hash, sync::Arc, time::Duration};

use moka::sync::Cache;
use quick_cache::{DefaultHashBuilder, sync::Cache as QuickCache};

use super::{
    CacheConfig,
    change_effects::with_revocations,
    entry::CacheEntry,
    eviction::{EvictedEntries, EvictionCounts},
    fence::{Epoch, Fence, FenceVerdict},
    loaded::{AppliedLoad, LoadedRecord},
    recent_writes::RecentWrites,
    sync::{AtomicBool, Ordering},
    weight::{self, RecordWeighter},
};
use crate::domain::{
    cache_policy::{CacheDecision, Lifetimes, UpstreamHealth},
    change::CacheableRecord,
    client_reuse::ClientReuse,
    grace::{Grace, MAX_GRACE},
    record_source::CachedRecord,
    verdict::{Revision, Source},
};

/// The digest that identifies a record in the database.
pub(super) type RecordDigest = [u8; 32];

/// The entries by id, and the fence that orders loads against changes.
pub(super) struct Pool<I, R> {
    config: CacheConfig,
    grace: Arc<Grace>,
    pub(super) fence: Fence,
    pub(super) records: QuickCache<I, Arc<CacheEntry<R>>, RecordWeighter, DefaultHashBuilder, EvictionCounts>,
    pub(super) negative: Cache<I, Arc<CacheEntry<R>>>,
    /// Preloaded records, by their digest in the database. A record moves to `records` when it is first
    /// requested.
    pub(super) preloaded: Cache<RecordDigest, Arc<CacheEntry<R>>>,
    /// Whether a record was ever preloaded. If not, no digest needs to be computed for a lookup.
    has_preloaded: AtomicBool,
    /// Recent writes of this replica with their positions in the change log: a result that was read at an
    /// earlier position is not trusted.
    pub(super) recent_writes: RecentWrites<I, R>,
    /// Records and negative entries that were evicted because the cache was full.
    pub(super) evictions: EvictionCounts,
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
        let evictions = EvictionCounts::default();
        let negative_evictions = evictions.clone();
        let expected_records = usize::try_from(config.max_records).unwrap_or(usize::MAX);
        Self {
            config,
            grace,
            fence: Fence::new(),
            records: QuickCache::with(
                expected_records,
                config.max_records,
                RecordWeighter,
                DefaultHashBuilder::default(),
                evictions.clone(),
            ),
            negative: Cache::builder()
                .max_capacity(config.max_negative_entries)
                .weigher(|id, _| weight::negative_weight_of::<R>(id))
                .time_to_live(config.policy.negative_ttl * 2)
                .eviction_listener(move |_, _, cause| negative_evictions.count_negative(cause))
                .build(),
            preloaded: Cache::builder()
                .max_capacity(config.max_records)
                .weigher(|_, entry: &Arc<CacheEntry<R>>| weight::weight_of(0, entry.record.as_deref()))
                .time_to_live(MAX_ENTRY_AGE)
                .build(),
            has_preloaded: AtomicBool::new(false),
            recent_writes: RecentWrites::new(),
            evictions,
        }
    }

    /// Returns the epoch. Take it before a read starts, and when a request arrives.
    pub(super) fn epoch(&self) -> Epoch {
        self.fence.epoch()
    }

    /// Returns the cached record of an id if it may be served.
    pub(super) fn get(
        &self,
        id: &I,
        now: Duration,
        health: impl FnOnce() -> UpstreamHealth,
    ) -> PoolLookup<R> {
        if let Some(entry) = self.records.get(id) {
            return match self.decide(&entry, now, health()) {
                CacheDecision::Serve(source) => PoolLookup::Hit(self.cached_record(&entry, now, source)),
                CacheDecision::ServeAndReload(source) if entry.claim_reload() => {
                    PoolLookup::HitNeedsReload(self.cached_record(&entry, now, source))
                }
                CacheDecision::ServeAndReload(source) => {
                    PoolLookup::Hit(self.cached_record(&entry, now, source))
                }
                CacheDecision::Reload => PoolLookup::Miss,
            };
        }
        match self.negative.get(id) {
            Some(entry) if entry.age(now) < entry.fresh && self.fence.is_negative_valid(entry.epoch) => {
                PoolLookup::Hit(self.cached_record(&entry, now, Source::Negative))
            }
            _ => PoolLookup::Miss,
        }
    }

    fn cached_record(&self, entry: &CacheEntry<R>, now: Duration, source: Source) -> CachedRecord<R> {
        entry.cached_record(now, source, &self.config.policy)
    }

    pub(super) fn decide(
        &self,
        entry: &CacheEntry<R>,
        now: Duration,
        health: UpstreamHealth,
    ) -> CacheDecision {
        self.lifetimes(entry, now).decide(
            entry.age(now),
            entry.is_outdated || self.fence.needs_revalidation(entry.epoch),
            health,
        )
    }

    fn lifetimes(&self, entry: &CacheEntry<R>, now: Duration) -> Lifetimes {
        self.config.policy.lifetimes(entry.fresh, self.grace.at(now))
    }

    /// Returns the record to serve as stale if the database gave no answer.
    pub(super) fn stale_fallback(&self, id: &I, now: Duration) -> Option<CachedRecord<R>> {
        let entry = self.records.get(id)?;
        self.lifetimes(&entry, now)
            .usable_when_stale(entry.age(now))
            .then(|| self.cached_record(&entry, now, Source::Stale))
    }

    /// Releases the claim on a reload. If it inserted nothing, the next caller claims another one.
    pub(super) fn release_reload(&self, id: &I) {
        if let Some(entry) = self.records.get(id) {
            entry.release_reload();
        }
    }

    /// Inserts the result of a load, unless a change supersedes it. `jitter` varies the entry's fresh time by
    /// up to 20 %, so that records that were loaded together are not reloaded together.
    pub(super) fn apply_load(
        &self,
        id: &I,
        loaded: LoadedRecord<R>,
        jitter: u8,
        now: Duration,
    ) -> AppliedLoad<R> {
        let marks = self.fence.lock_for_insert();
        let fresh_since = now.saturating_sub(self.config.policy.fresh);
        let loaded = match self.recent_writes.written_after(id, loaded.revision, fresh_since) {
            None => loaded,
            // The own write is newer than the result of the lagging read replica.
            Some(Some(written)) => LoadedRecord { epoch: loaded.epoch, ..written },
            Some(None) => LoadedRecord { is_lagging: true, ..loaded },
        };
        let verdict = match &loaded.record {
            Some(record) => marks.evaluate(record, loaded.epoch, loaded.revision),
            None => marks.evaluate_negative::<R>(id, loaded.epoch, loaded.revision),
        };
        // A known revocation holds even if the rest of the result is outdated.
        let verdict = match verdict {
            FenceVerdict::Revoked(kinds) => FenceVerdict::Revoked(kinds),
            FenceVerdict::UpToDate | FenceVerdict::Superseded(_) | FenceVerdict::Lagging
                if loaded.is_lagging =>
            {
                FenceVerdict::Lagging
            }
            verdict => verdict,
        };
        let mut entry = self.new_entry(loaded, jitter);
        let entry = match &verdict {
            FenceVerdict::UpToDate => self.insert_and_get(id, Arc::new(entry)),
            FenceVerdict::Revoked(kinds) => match with_revocations(&entry, kinds) {
                Some(entry) => self.insert_and_get(id, Arc::new(entry)),
                None => Arc::new(entry),
            },
            // The result answers callers that asked before the change. It is not cached.
            FenceVerdict::Superseded(_) | FenceVerdict::Lagging => {
                entry.is_outdated = true;
                Arc::new(entry)
            }
        };
        drop(marks);
        let superseded_at = match verdict {
            FenceVerdict::Superseded(epoch) => Some(epoch),
            FenceVerdict::UpToDate | FenceVerdict::Revoked(_) | FenceVerdict::Lagging => None,
        };
        let is_lagging = verdict == FenceVerdict::Lagging;
        AppliedLoad { cached: self.cached_record(&entry, now, Source::Database), superseded_at, is_lagging }
    }

    /// Marks the result of a load from a stalled read replica as stale. A record may be served within the
    /// grace; a negative result may not, so it counts as lagging.
    pub(super) fn as_stale(&self, mut applied: AppliedLoad<R>, now: Duration) -> AppliedLoad<R> {
        let CachedRecord { record, provenance } = &mut applied.cached;
        let policy = &self.config.policy;
        let lifetimes = policy.lifetimes(policy.fresh, self.grace.at(now));
        let usable = record.is_some() && lifetimes.usable_when_stale(provenance.age);
        (provenance.source, provenance.reuse) = (Source::Stale, ClientReuse::NONE);
        applied.is_lagging |= !usable;
        applied
    }

    /// Removes the entry of a record that a read found to be unreadable: the entry no longer matches the
    /// database. A known revocation stays, and an entry that was read at a later position. Returns the epoch
    /// from which on a caller that asked has to load again.
    pub(super) fn remove_unreadable(&self, id: &I, load_epoch: Epoch, revision: Revision) -> Option<Epoch> {
        let _marks = self.fence.lock_for_insert();
        let is_older = |found: &Arc<CacheEntry<R>>| {
            !found.is_outdated && (found.revision <= revision || self.fence.needs_revalidation(found.epoch))
        };
        self.records.remove_if(id, is_older);
        self.negative.invalidate(id);
        (self.fence.epoch() > load_epoch).then_some(load_epoch + 1)
    }

    fn new_entry(&self, loaded: LoadedRecord<R>, jitter: u8) -> CacheEntry<R> {
        let LoadedRecord { record, revision, loaded_at, epoch, .. } = loaded;
        let fresh = match record {
            Some(_) => self.config.policy.fresh_for(jitter),
            None => self.config.policy.negative_ttl,
        };
        CacheEntry::new(record, revision, loaded_at, fresh, epoch)
    }

    /// Inserts the entry of a record, and counts the records that it evicts.
    pub(super) fn insert_record(&self, id: &I, entry: Arc<CacheEntry<R>>) {
        let mut evicted = EvictedEntries::default();
        self.records.insert_with_lifecycle(id.clone(), Arc::clone(&entry), &mut evicted);
        self.evictions.count_records(&evicted, id, &entry);
    }

    /// Inserts an entry, and returns the entry that is cached afterwards.
    ///
    /// Two loads of one id can finish at the same time, and the fence compares neither with the other. So a
    /// negative entry must not replace a record that was read at a later position of the log.
    fn insert_and_get(&self, id: &I, entry: Arc<CacheEntry<R>>) -> Arc<CacheEntry<R>> {
        if entry.record.is_some() {
            self.insert_record(id, Arc::clone(&entry));
            self.negative.invalidate(id);
            return entry;
        }
        let is_older = |found: &Arc<CacheEntry<R>>| {
            found.revision <= entry.revision || self.fence.needs_revalidation(found.epoch)
        };
        self.records.remove_if(id, is_older);
        self.negative.insert(id.clone(), Arc::clone(&entry));
        // Checked after the negative entry is inserted, just as a negative entry is removed after a record is
        // inserted: the later of the two sees the other.
        match self.records.peek(id) {
            Some(found) => {
                self.negative.invalidate(id);
                found
            }
            None => entry,
        }
    }

    /// Inserts a preloaded record, unless a change supersedes it. If the pool is full, the record may be
    /// dropped.
    pub(super) fn insert_preloaded(&self, digest: RecordDigest, loaded: LoadedRecord<R>) {
        let marks = self.fence.lock_for_insert();
        let Some(record) = &loaded.record else { return };
        if marks.evaluate(record, loaded.epoch, loaded.revision) == FenceVerdict::UpToDate {
            let [.., jitter] = digest;
            self.preloaded.insert(digest, Arc::new(self.new_entry(loaded, jitter)));
            self.has_preloaded.store(true, Ordering::Release);
        }
    }

    /// Moves a preloaded record to `records`. Returns whether there was one.
    pub(super) fn promote_preloaded(&self, id: &I, digests: impl FnOnce() -> Vec<RecordDigest>) -> bool {
        if !self.has_preloaded.load(Ordering::Acquire) || self.records.contains_key(id) {
            return false;
        }
        // Without the lock, a change could miss an entry that is in neither pool.
        let _marks = self.fence.lock_for_insert();
        let entry = digests().iter().find_map(|digest| self.preloaded.remove(digest));
        entry.map(|entry| self.insert_record(id, entry)).is_some()
    }

    /// Removes records that are too old to be served in any case.
    pub(super) fn sweep(&self, now: Duration) {
        self.records.retain(|_, entry| entry.age(now) <= MAX_ENTRY_AGE);
    }
}

/// The maximum age of an entry. The cache policy stops serving it well before. The configured grace does not
/// matter: an operator can set a longer one during an outage, and the entries must still be cached then.
const MAX_ENTRY_AGE: Duration = MAX_GRACE;
