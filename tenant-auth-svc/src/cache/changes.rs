//! Applies changes to the cache.

use std::{hash::Hash, sync::Arc};

use super::{
    change_effects::{may_be_creation, unreflected_changes, with_revocations},
    entry::CacheEntry,
    loaded::LoadedRecord,
    pool::Pool,
};
use crate::domain::{
    change::{CacheableRecord, ChangeEvent, PerSubject},
    clock::UnixMillis,
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
        for (id, _) in R::values_by_id(changes) {
            self.negative.invalidate(id);
            if let Some(entry) = self.records.get(id) {
                self.apply_to_entry(id, &entry, changes);
            }
        }
        let mut seen = 0;
        // Checks every entry: changes are rare, and a second index would add a cost to each load.
        if !(changes.keys.is_empty() && changes.tenants.is_empty()) {
            for (id, entry) in self.records.iter() {
                let own_change = entry.record.as_deref().and_then(|record| record.own_value(changes));
                seen += usize::from(own_change.is_some_and(may_be_creation));
                self.apply_to_entry(&id, &entry, changes);
            }
            for (digest, entry) in &self.preloaded {
                // It is loaded again when it is next requested.
                if !unreflected_changes(&entry, changes, &self.fence).is_empty() {
                    self.preloaded.invalidate(&*digest);
                }
            }
        }
        drop(guard);
        // A changed subject without a cached record may be a new one with a negative entry. Which entry that
        // is cannot be determined, so all negative entries are invalidated.
        let creations = || R::values_without_record_id(changes).filter(|change| may_be_creation(change));
        let revision = creations().filter_map(|change| change.revision).max();
        if revision.is_some() && seen < creations().count() {
            drop(self.fence.record_creation(revision));
        }
    }

    fn apply_to_entry(&self, id: &I, entry: &CacheEntry<R>, changes: &PerSubject<ChangeEvent>) {
        let kinds = unreflected_changes(entry, changes, &self.fence);
        if kinds.is_empty() {
            return;
        }
        match with_revocations(entry, &kinds) {
            Some(entry) => self.insert_record(id, Arc::new(entry)),
            None => drop(self.records.remove(id)),
        }
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
        for (id, entry) in self.records.iter() {
            self.apply_to_entry(&id, &entry, revocations);
        }
        self.preloaded.invalidate_all();
    }

    /// Marks every entry as needing revalidation. Until then it is only a stale fallback.
    pub(super) fn require_revalidation(&self) {
        self.fence.require_revalidation();
        // Their positions may be those of another log.
        self.recent_writes.clear();
    }
}
