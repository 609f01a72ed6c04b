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
    change_effects::is_superseded,
    entry::{CacheEntry, ReadPoint},
    fence::{Epoch, Fence, FenceVerdict},
    loaded::{AppliedLoad, LoadedRecord},
    recent_writes::RecentWrites,
    shard::Keep,
    subjects::{Revocations, Subjects, Unreflected},
    sync::{AtomicBool, Ordering},
    table::Table,
    weight,
};
use crate::{
    domain::{
        cache_policy::{CacheDecision, Lifetimes, UpstreamHealth},
        change::{CacheableRecord, ChangeKind},
        client_reuse::ClientReuse,
        grace::{Grace, MAX_GRACE},
        record_source::CachedRecord,
        verdict::{Revision, Source},
    },
    instruments::counts::Counter,
};

/// The digest that identifies a record in the database.
pub(super) type RecordDigest = [u8; 32];

/// The entries by id, and the fence that orders loads against changes.
pub(super) struct Pool<I, R> {
    config: CacheConfig,
    grace: Arc<Grace>,
    pub(super) fence: Fence,
    /// Records by their id; a preloaded one by its digest in the database, which is another one if it has a pepper,
    /// until it is first requested.
    pub(super) records: Table<I, R>,
    pub(super) negative: Cache<I, ReadPoint>,
    /// Whether a record was ever preloaded. If not, no digest needs to be computed for a lookup.
    has_preloaded: AtomicBool,
    /// What many entries depend on.
    pub(super) subjects: Subjects,
    /// Recent writes of this replica with their positions in the change log: a result that was read at an
    /// earlier position is not trusted.
    pub(super) recent_writes: RecentWrites<I, R>,
    /// Records, and negative entries, that were evicted because the cache was full.
    evicted: (Counter, Arc<Counter>),
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

    fn cached_record(
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
    fn revocations(&self, entry: &CacheEntry<R>) -> Option<Revocations> {
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
        let superseded_at = match verdict {
            FenceVerdict::Superseded(epoch) => Some(epoch),
            FenceVerdict::UpToDate | FenceVerdict::Revoked(_) | FenceVerdict::Lagging => None,
        };
        let is_lagging = verdict == FenceVerdict::Lagging;
        let read = loaded.read_point();
        let cached = match loaded.record {
            None => self.apply_negative(id, read, &verdict, now),
            Some(record) => {
                let mut entry = self.new_entry(record, read, jitter);
                let is_cached = match &verdict {
                    FenceVerdict::UpToDate => true,
                    FenceVerdict::Revoked(kinds) => {
                        kinds.iter().for_each(|kind| entry.apply_revocation(*kind));
                        true
                    }
                    // The result answers callers that asked before the change. It is not cached.
                    FenceVerdict::Superseded(_) | FenceVerdict::Lagging => {
                        entry.is_outdated = true;
                        false
                    }
                };
                let cached = self.cached_record(&entry, &[], now, Source::Database);
                if is_cached {
                    self.insert_record(id, entry);
                    self.negative.invalidate(id);
                }
                cached
            }
        };
        drop(marks);
        AppliedLoad { cached, superseded_at, is_lagging }
    }

    /// Inserts a negative result if nothing supersedes it, and returns the answer.
    ///
    /// Two loads of one id can finish at the same time, and the fence compares neither with the other. So a
    /// negative entry must not replace a record that was read at a later position of the log.
    fn apply_negative(
        &self,
        id: &I,
        read: ReadPoint,
        verdict: &FenceVerdict,
        now: Duration,
    ) -> CachedRecord<R> {
        let policy = &self.config.policy;
        let mut answer = read.answer(None, (now, policy.negative_ttl), Source::Database, policy);
        if *verdict != FenceVerdict::UpToDate {
            answer.provenance.reuse = ClientReuse::NONE;
            return answer;
        }
        self.records.update(id, |found| {
            let is_older = found.read.revision <= read.revision
                || self.fence.needs_revalidation(found.read.epoch)
                || is_superseded(found, &self.fence);
            if is_older { Keep::No } else { Keep::Yes }
        });
        self.negative.insert(id.clone(), read);
        // Checked after the negative entry is inserted, just as a negative entry is removed after a record is
        // inserted: the later of the two sees the other.
        match self.records.peek(id, |found| self.cached_record(found, &[], now, Source::Database)) {
            Some(found) => {
                self.negative.invalidate(id);
                found
            }
            None => answer,
        }
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
        self.records.update(id, |found| {
            let is_newer = found.read.revision > revision && !self.fence.needs_revalidation(found.read.epoch);
            if found.is_outdated || is_newer { Keep::Yes } else { Keep::No }
        });
        self.negative.invalidate(id);
        (self.fence.epoch() > load_epoch).then_some(load_epoch + 1)
    }

    fn new_entry(&self, mut record: R, read: ReadPoint, jitter: u8) -> CacheEntry<R> {
        let subjects = self.subjects.share(&mut record);
        CacheEntry::new(record, read, jitter, subjects)
    }

    /// Inserts the entry of a record, and counts the records that it evicts.
    fn insert_record(&self, id: &I, entry: CacheEntry<R>) {
        self.evicted.0.add(self.records.insert(id.clone(), R::id_heap_bytes(id), entry));
    }

    /// Inserts a preloaded record, unless a change supersedes it or a request has loaded it meanwhile.
    pub(super) fn insert_preloaded(&self, digest: RecordDigest, loaded: LoadedRecord<R>) {
        let marks = self.fence.lock_for_insert();
        let read = loaded.read_point();
        let (Some(record), Some(id)) = (loaded.record, R::id_of_digest(digest)) else { return };
        let is_current = marks.evaluate(&record, loaded.epoch, loaded.revision) == FenceVerdict::UpToDate;
        if is_current && !self.records.contains(&id) {
            let [.., jitter] = digest;
            self.insert_record(&id, self.new_entry(record, read, jitter).as_preloaded());
            self.has_preloaded.store(true, Ordering::Release);
        }
    }

    /// Moves a preloaded record from its digest to its id. Returns whether there was one.
    pub(super) fn promote_preloaded(&self, id: &I, digests: impl FnOnce() -> Vec<RecordDigest>) -> bool {
        if !self.has_preloaded.load(Ordering::Acquire) || self.records.contains(id) {
            return false;
        }
        let digests = digests().into_iter().filter_map(R::id_of_digest);
        let mut others = digests.filter(|digest| digest != id).peekable();
        if others.peek().is_none() {
            return false;
        }
        // Without the lock, a change could miss an entry that is in neither place.
        let _marks = self.fence.lock_for_insert();
        let entry = others.find_map(|digest| self.records.remove(&digest));
        entry.map(|entry| self.insert_record(id, entry)).is_some()
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
