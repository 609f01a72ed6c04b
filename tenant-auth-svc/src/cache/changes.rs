//! What memory does when it hears of changes.

use std::{hash::Hash, sync::Arc};

use super::{
    change_effects::{may_be_creation, unreflected_changes, with_revocations},
    entry::CacheEntry,
    pool::{LoadedRecord, Pool},
};
use crate::domain::{
    change::{CacheableRecord, ChangeEvent, PerSubject},
    verdict::Revision,
};

impl<I, R> Pool<I, R>
where
    I: Clone + Eq + Hash + Send + Sync + 'static,
    R: CacheableRecord<Id = I>,
{
    /// Removes what the news contradict, or writes the end that they tell into it.
    pub(super) fn apply(&self, news: &PerSubject<ChangeEvent>) {
        let guard = self.fence.record_changes(news);
        for (id, _) in R::values_by_id(news) {
            self.negative.invalidate(id);
            if let Some(entry) = self.records.get(id) {
                self.apply_to_entry(id, &entry, news);
            }
        }
        let mut seen = 0;
        // All entries have to be looked at: changes are rare, and a second index would cost every load.
        if !(news.keys.is_empty() && news.tenants.is_empty()) {
            for (id, entry) in self.records.iter() {
                let itself = entry.record.as_deref().and_then(|record| record.own_value(news));
                seen += usize::from(itself.is_some_and(may_be_creation));
                self.apply_to_entry(&id, &entry, news);
            }
            for (digest, entry) in &self.preloaded {
                // It is read again when it is asked for.
                if !unreflected_changes(&entry, news, &self.fence).is_empty() {
                    self.preloaded.invalidate(&*digest);
                }
            }
        }
        drop(guard);
        // One that is not here may be a new one, whose absence is; nobody can tell which.
        let arrivals = || R::values_without_record_id(news).filter(|news| may_be_creation(news));
        let revision = arrivals().filter_map(|news| news.revision).max();
        if revision.is_some() && seen < arrivals().count() {
            drop(self.fence.record_creation(revision));
        }
    }

    fn apply_to_entry(&self, id: &I, entry: &CacheEntry<R>, news: &PerSubject<ChangeEvent>) {
        let fates = unreflected_changes(entry, news, &self.fence);
        if fates.is_empty() {
            return;
        }
        match with_revocations(entry, &fates) {
            Some(entry) => self.insert_record(id, Arc::new(entry)),
            None => drop(self.records.remove(id)),
        }
    }

    /// Makes absences end: these are there now.
    pub(super) fn invalidate_negative(&self, ids: &[I], revision: Option<Revision>) {
        let _guard = self.fence.record_creation(None);
        for id in ids {
            if let Some(revision) = revision {
                self.recent_writes.record(id, revision, None);
            }
            self.negative.invalidate(id);
        }
    }

    /// Takes in what this replica has written: it stands in for whatever is read that is older.
    pub(super) fn record_write(&self, id: &I, loaded: LoadedRecord<R>) {
        self.recent_writes.record(id, loaded.revision, Some(loaded));
    }

    /// Makes ends hold, whatever the database shows without them.
    pub(super) fn hold_revocations(&self, ends: &PerSubject<ChangeEvent>) {
        let _guard = self.fence.hold_revocations(ends);
        for (id, entry) in self.records.iter() {
            self.apply_to_entry(&id, &entry, ends);
        }
        self.preloaded.invalidate_all();
    }

    /// Makes everything in memory a stopgap until it is read again.
    pub(super) fn require_revalidation(&self) {
        self.fence.require_revalidation();
        // Their positions may be those of another log.
        self.recent_writes.clear();
    }
}
