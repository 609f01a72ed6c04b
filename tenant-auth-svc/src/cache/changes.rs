//! Applies changes to the cache. Each costs the same however much is cached: a subject is looked up, never searched for.

use std::hash::Hash;

use super::{
    change_effects::{apply_change, may_be_creation},
    loaded::LoadedRecord,
    pool::Pool,
};
use crate::domain::{
    change::{CacheableRecord, ChangeEvent, PerSubject},
    clock::UnixMillis,
    id::PackedKeyId,
    verdict::Revision,
};

impl<I, R> Pool<I, R>
where
    I: Clone + Eq + Hash + Send + Sync + 'static,
    R: CacheableRecord<Id = I>,
{
    /// Removes entries that the changes contradict, or writes the revocation into them. `at` is the current time.
    pub(super) fn apply(&self, changes: &PerSubject<ChangeEvent>, at: UnixMillis) {
        let guard = self.fence.record_changes(changes, at);
        let changed = self.apply_to_entries(changes);
        drop(guard);
        // A changed subject without a cached record may be a new one with a negative entry. Which entry that
        // is cannot be determined, so all negative entries are invalidated.
        let creations = || {
            R::values_by_public_id(changes).map(|(_, change)| change).filter(|change| may_be_creation(change))
        };
        let revision = creations().filter_map(|change| change.revision).max();
        if revision.is_some() && changed < creations().count() {
            drop(self.fence.record_creation(revision));
        }
    }

    /// Applies changes to what is cached; the caller holds the lock of the fence. Returns how many changes that may be
    /// creations concern records that were cached before.
    fn apply_to_entries(&self, changes: &PerSubject<ChangeEvent>) -> usize {
        for (id, change) in R::values_by_id(changes) {
            self.negative.invalidate(id);
            self.records.update(id, |entry| apply_change(entry, change, &self.fence));
        }
        let mut changed = 0;
        for (id, change) in R::values_by_public_id(changes) {
            let id = PackedKeyId::from(id);
            let is_cached = self.records.update_public(&id, |entry| apply_change(entry, change, &self.fence));
            changed += usize::from(is_cached && may_be_creation(change));
        }
        self.subjects.record(changes, self.fence.epoch(), &self.fence);
        changed
    }

    /// Invalidates the negative entries of ids that exist now.
    pub(super) fn invalidate_negative(&self, ids: &[I], revision: Option<Revision>) {
        let _guard = self.fence.record_creation(None);
        for id in ids {
            if let Some(revision) = revision {
                self.recent_writes.record(id, revision, None);
            }
            self.negative.invalidate(id);
        }
    }

    /// Records a write of this replica. Until it expires, it replaces older results of a read.
    pub(super) fn record_write(&self, id: &I, loaded: LoadedRecord<R>) {
        self.recent_writes.record(id, loaded.revision, Some(loaded));
    }

    /// Applies revocations even if the database does not show them.
    pub(super) fn retain_revocations(&self, revocations: &PerSubject<ChangeEvent>) {
        let _guard = self.fence.retain_revocations(revocations);
        self.apply_to_entries(revocations);
    }

    /// Marks every entry as needing revalidation. Until then it is only a stale fallback.
    pub(super) fn require_revalidation(&self) {
        self.fence.require_revalidation();
        // Their positions may be those of another log.
        self.recent_writes.clear();
    }
}
