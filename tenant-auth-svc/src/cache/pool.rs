//! What is in memory: found records, absences, and what was read ahead at the start.
//!
//! Nothing here waits. quick_cache and moka give capacity and throw out what nobody asks for; what an entry is still
//! good for is decided by its age, the injected clock and the state of the world (`domain::cache_policy`). Absences have a
//! pool of their own, so that a flood of unknown keys cannot push known ones out, and are never used beyond their short
//! time.
//!
//! What is found is on the path of every request, where quick_cache is several times faster over many keys and takes a
//! fraction of the memory. Absences and what was read ahead come and go with time, which is what moka is for.

use std::{hash::Hash, sync::Arc, time::Duration};

use moka::sync::Cache;
use quick_cache::{DefaultHashBuilder, sync::Cache as Found};

use super::{
    CacheConfig,
    change_effects::with_revocations,
    entry::CacheEntry,
    eviction::{EvictedEntries, EvictionCounts},
    fence::{Epoch, Fence, FenceVerdict},
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

/// How many bytes name a record in the database.
pub(super) type RecordDigest = [u8; 32];

/// Entries by id, and the fence around them.
pub(super) struct Pool<I, R> {
    config: CacheConfig,
    grace: Arc<Grace>,
    pub(super) fence: Fence,
    pub(super) records: Found<I, Arc<CacheEntry<R>>, RecordWeighter, DefaultHashBuilder, EvictionCounts>,
    pub(super) negative: Cache<I, Arc<CacheEntry<R>>>,
    /// Read ahead, by the digest under which the database knows it; moves to `found` when asked for.
    pub(super) preloaded: Cache<RecordDigest, Arc<CacheEntry<R>>>,
    /// Whether there ever was anything: without, no digest has to be made to look for it.
    has_preloaded: AtomicBool,
    /// What this replica has written, and where the log ended with it: nothing read before that is believed about it.
    pub(super) recent_writes: RecentWrites<I, R>,
    /// Records and absences that had to go for want of room.
    evictions: EvictionCounts,
}

/// What memory has for an id.
#[derive(Debug)]
pub(super) enum PoolLookup<R> {
    Hit(CachedRecord<R>),
    /// Good for this answer; a reload is due, and the caller has claimed it.
    HitNeedsReload(CachedRecord<R>),
    Miss,
}

/// One record, or its absence, as read.
#[derive(Clone, Debug)]
pub(super) struct LoadedRecord<R> {
    pub(super) record: Option<R>,
    pub(super) revision: Revision,
    /// By the monotonic clock, from before the read.
    pub(super) loaded_at: Duration,
    /// The epoch, from before the read.
    pub(super) epoch: Epoch,
    /// Whether it is older than what was known before the read.
    pub(super) is_lagging: bool,
}

/// What came of a load.
#[derive(Debug)]
pub(super) struct AppliedLoad<R> {
    pub(super) cached: CachedRecord<R>,
    /// Whoever asked under this epoch or a higher one has to ask again.
    pub(super) superseded_at: Option<Epoch>,
    /// It is older than what is known, and not to be believed.
    pub(super) is_lagging: bool,
}

impl<R> Clone for AppliedLoad<R> {
    fn clone(&self) -> Self {
        Self { cached: self.cached.clone(), superseded_at: self.superseded_at, is_lagging: self.is_lagging }
    }
}

impl<I, R> Pool<I, R>
where
    I: Clone + Eq + Hash + Send + Sync + 'static,
    R: CacheableRecord<Id = I>,
{
    pub(super) fn new(config: CacheConfig, grace: Arc<Grace>) -> Self {
        let evicted = EvictionCounts::default();
        let absences = evicted.clone();
        let most = usize::try_from(config.max_records).unwrap_or(usize::MAX);
        Self {
            config,
            grace,
            fence: Fence::new(),
            records: Found::with(
                most,
                config.max_records,
                RecordWeighter,
                DefaultHashBuilder::default(),
                evicted.clone(),
            ),
            negative: Cache::builder()
                .max_capacity(config.max_negative_entries)
                .time_to_live(config.policy.negative_ttl * 2)
                .eviction_listener(move |_, _, cause| absences.count_negative(cause))
                .build(),
            preloaded: Cache::builder()
                .max_capacity(config.max_records)
                .weigher(|_, entry: &Arc<CacheEntry<R>>| weight::weight_of_u32(entry.record.as_deref()))
                .time_to_live(MAX_ENTRY_AGE)
                .build(),
            has_preloaded: AtomicBool::new(false),
            recent_writes: RecentWrites::new(),
            evictions: evicted,
        }
    }

    /// The epoch, to be taken before a read begins and by whoever asks.
    pub(super) fn epoch(&self) -> Epoch {
        self.fence.epoch()
    }

    pub(super) fn get(&self, id: &I, now: Duration, world: impl FnOnce() -> UpstreamHealth) -> PoolLookup<R> {
        if let Some(entry) = self.records.get(id) {
            return match self.decide(&entry, now, world()) {
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
        world: UpstreamHealth,
    ) -> CacheDecision {
        self.lifetimes(entry, now).decide(
            entry.age(now),
            entry.is_outdated || self.fence.needs_revalidation(entry.epoch),
            world,
        )
    }

    fn lifetimes(&self, entry: &CacheEntry<R>, now: Duration) -> Lifetimes {
        self.config.policy.lifetimes(entry.fresh, self.grace.at(now))
    }

    /// What may stand in for an answer that the database did not give.
    pub(super) fn stale_fallback(&self, id: &I, now: Duration) -> Option<CachedRecord<R>> {
        let entry = self.records.get(id)?;
        self.lifetimes(&entry, now)
            .usable_when_stale(entry.age(now))
            .then(|| self.cached_record(&entry, now, Source::Stale))
    }

    /// Whether there is a record in memory, good or not.
    pub(super) fn contains(&self, id: &I) -> bool {
        self.records.contains_key(id)
    }

    /// Says that a reload is over. What is still there was not replaced, after a failure or a change meanwhile: the next
    /// who needs it asks.
    pub(super) fn release_reload(&self, id: &I) {
        if let Some(entry) = self.records.get(id) {
            entry.release_reload();
        }
    }

    /// Takes in what was read, unless news have overtaken it. `drawn` spreads the entry's fresh time by up to 20 %, so
    /// that what was loaded together is not reloaded together.
    pub(super) fn apply_load(
        &self,
        id: &I,
        loaded: LoadedRecord<R>,
        drawn: u8,
        now: Duration,
    ) -> AppliedLoad<R> {
        let ledger = self.fence.lock_for_insert();
        let loaded = match self.recent_writes.written_after(id, loaded.revision) {
            None => loaded,
            // This replica knows better than the copy that it has read from.
            Some(Some(own)) => LoadedRecord { epoch: loaded.epoch, ..own },
            Some(None) => LoadedRecord { is_lagging: true, ..loaded },
        };
        let judgement = match &loaded.record {
            Some(record) => ledger.evaluate(record, loaded.epoch, loaded.revision),
            None => ledger.evaluate_negative::<R>(id, loaded.epoch, loaded.revision),
        };
        // An end is an end, however old the rest is.
        let judgement = match judgement {
            FenceVerdict::Revoked(fates) => FenceVerdict::Revoked(fates),
            FenceVerdict::UpToDate | FenceVerdict::Superseded(_) | FenceVerdict::Lagging
                if loaded.is_lagging =>
            {
                FenceVerdict::Lagging
            }
            judgement => judgement,
        };
        let mut entry = self.new_entry(loaded, drawn);
        let entry = match &judgement {
            FenceVerdict::UpToDate => self.insert_and_get(id, Arc::new(entry)),
            FenceVerdict::Revoked(fates) => match with_revocations(&entry, fates) {
                Some(entry) => self.insert_and_get(id, Arc::new(entry)),
                None => Arc::new(entry),
            },
            // It answers those who asked before the change, and is good for nothing else.
            FenceVerdict::Superseded(_) | FenceVerdict::Lagging => {
                entry.is_outdated = true;
                Arc::new(entry)
            }
        };
        drop(ledger);
        let overtaken = match judgement {
            FenceVerdict::Superseded(epoch) => Some(epoch),
            FenceVerdict::UpToDate | FenceVerdict::Revoked(_) | FenceVerdict::Lagging => None,
        };
        let lags = judgement == FenceVerdict::Lagging;
        AppliedLoad {
            cached: self.cached_record(&entry, now, Source::Database),
            superseded_at: overtaken,
            is_lagging: lags,
        }
    }

    /// What came of a load from a copy that stands still: a record stands in for an answer while it is within the grace, and an
    /// absence is none.
    pub(super) fn as_stale(&self, mut settled: AppliedLoad<R>, now: Duration) -> AppliedLoad<R> {
        let CachedRecord { record, provenance } = &mut settled.cached;
        let policy = &self.config.policy;
        let lifetimes = policy.lifetimes(policy.fresh, self.grace.at(now));
        let usable = record.is_some() && lifetimes.usable_when_stale(provenance.age);
        (provenance.source, provenance.reuse) = (Source::Stale, ClientReuse::NONE);
        settled.is_lagging |= !usable;
        settled
    }

    /// Lets go of what is in memory of a record that a read found and nobody can read: it is not what was known. An end that
    /// is known stays, and what was read at a later position. Gives the epoch from which on whoever asked has to ask again.
    pub(super) fn remove_unreadable(&self, id: &I, began: Epoch, revision: Revision) -> Option<Epoch> {
        let _ledger = self.fence.lock_for_insert();
        let is_older = |found: &Arc<CacheEntry<R>>| {
            !found.is_outdated && (found.revision <= revision || self.fence.needs_revalidation(found.epoch))
        };
        self.records.remove_if(id, is_older);
        self.negative.invalidate(id);
        (self.fence.epoch() > began).then_some(began + 1)
    }

    fn new_entry(&self, loaded: LoadedRecord<R>, drawn: u8) -> CacheEntry<R> {
        let LoadedRecord { record, revision, loaded_at, epoch: began, .. } = loaded;
        let fresh = match record {
            Some(_) => self.config.policy.fresh_for(drawn),
            None => self.config.policy.negative_ttl,
        };
        CacheEntry::new(record, revision, loaded_at, fresh, began)
    }

    /// Writes the entry of a record.
    pub(super) fn insert_record(&self, id: &I, entry: Arc<CacheEntry<R>>) {
        let mut displaced = EvictedEntries::default();
        self.records.insert_with_lifecycle(id.clone(), Arc::clone(&entry), &mut displaced);
        self.evictions.count_records(&displaced, id, &entry);
    }

    /// Writes an entry, and gives what is in memory then.
    ///
    /// Two answers about one id can come at once, and the news tell only of the record once that is here: an absence must
    /// not take the place of a record that was read at a later position of the log.
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
        // Looked for after the absence was written, as the absence of a record is removed after that was written: whichever
        // comes second sees the other.
        match self.records.peek(id) {
            Some(found) => {
                self.negative.invalidate(id);
                found
            }
            None => entry,
        }
    }

    /// Takes in what was read ahead, unless news have overtaken it or there is no room left.
    pub(super) fn insert_preloaded(&self, digest: RecordDigest, loaded: LoadedRecord<R>) {
        let ledger = self.fence.lock_for_insert();
        let Some(record) = &loaded.record else { return };
        if ledger.evaluate(record, loaded.epoch, loaded.revision) == FenceVerdict::UpToDate {
            let [.., drawn] = digest;
            self.preloaded.insert(digest, Arc::new(self.new_entry(loaded, drawn)));
            self.has_preloaded.store(true, Ordering::Release);
        }
    }

    /// Moves what was read ahead to where it is found. Whether there was anything.
    pub(super) fn promote_preloaded(&self, id: &I, digests: impl FnOnce() -> Vec<RecordDigest>) -> bool {
        if !self.has_preloaded.load(Ordering::Acquire) || self.records.contains_key(id) {
            return false;
        }
        // News would miss an entry that is in neither place.
        let _ledger = self.fence.lock_for_insert();
        let entry = digests().iter().find_map(|digest| self.preloaded.remove(digest));
        entry.map(|entry| self.insert_record(id, entry)).is_some()
    }

    /// Lets go of what is too old for everything, and only takes up room.
    pub(super) fn sweep(&self, now: Duration) {
        self.records.retain(|_, entry| entry.age(now) <= MAX_ENTRY_AGE);
    }

    /// When each record was read, by the monotonic clock; those that were read ahead and not asked for are left out.
    pub(super) fn load_times(&self) -> Vec<Duration> {
        self.records.iter().map(|(_, entry)| entry.loaded_at).collect()
    }

    /// How many records and absences there are.
    pub(super) fn size(&self) -> (u64, u64) {
        // What is due to go does not count.
        self.preloaded.run_pending_tasks();
        self.negative.run_pending_tasks();
        (self.records.len() as u64 + self.preloaded.entry_count(), self.negative.entry_count())
    }

    /// How many records and absences had to go for want of room.
    pub(super) fn evicted(&self) -> (u64, u64) {
        self.evictions.counts()
    }
}

/// After this nothing is good for anything: the outer bound, entries are decided about well before. Whatever grace is configured,
/// because a longer one can be set while the database is away, and must find what it is for.
const MAX_ENTRY_AGE: Duration = MAX_GRACE;
