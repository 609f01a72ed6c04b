//! Inserts what was read into the cache, unless a change supersedes it.

use std::{hash::Hash, time::Duration};

use super::{
    change_effects::is_superseded,
    entry::{CacheEntry, ReadPoint},
    fence::{Epoch, FenceVerdict},
    loaded::{AppliedLoad, LoadedRecord},
    pool::Pool,
    shard::Keep,
    sync::Ordering,
};
use crate::domain::{
    change::CacheableRecord,
    client_reuse::ClientReuse,
    record_source::CachedRecord,
    store::StoredDigest,
    verdict::{Revision, Source},
};

impl<I, R> Pool<I, R>
where
    I: Clone + Eq + Hash + Send + Sync + 'static,
    R: CacheableRecord<Id = I>,
{
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
        let answer_of = |found: &CacheEntry<R>| {
            let revocations = self.revocations(found)?;
            Some(self.cached_record(found, &revocations, now, Source::Database))
        };
        match self.records.peek(id, answer_of).flatten() {
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
    pub(super) fn insert_preloaded(&self, digest: StoredDigest, loaded: LoadedRecord<R>) {
        let marks = self.fence.lock_for_insert();
        let read = loaded.read_point();
        let (Some(record), Some(id)) = (loaded.record, R::id_of_digest(digest)) else { return };
        let is_current = marks.evaluate(&record, loaded.epoch, loaded.revision) == FenceVerdict::UpToDate;
        if is_current && !self.records.contains(&id) {
            let [.., jitter] = digest;
            self.insert_record(&id, self.new_entry(record, read, jitter).into_preloaded());
            self.has_preloaded.store(true, Ordering::Release);
        }
    }

    /// Moves a preloaded record from its digest to its id. Returns whether there was one.
    pub(super) fn promote_preloaded(&self, id: &I, digests: impl FnOnce() -> Vec<StoredDigest>) -> bool {
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
}
