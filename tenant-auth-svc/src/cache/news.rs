//! What memory does when it hears of changes.

use std::{hash::Hash, sync::Arc};

use super::{
    entry::Entry,
    fates::{ended, may_be_new, unreflected},
    pool::{Loaded, Pool},
};
use crate::domain::{
    change::{BySubject, News, Record},
    verdict::Revision,
};

impl<I, R> Pool<I, R>
where
    I: Clone + Eq + Hash + Send + Sync + 'static,
    R: Record<Id = I>,
{
    /// Removes what the news contradict, or writes the end that they tell into it.
    pub(super) fn hear(&self, news: &BySubject<News>) {
        let guard = self.fence.mark(news);
        for (id, _) in R::by_id(news) {
            self.absent.invalidate(id);
            if let Some(entry) = self.found.get(id) {
                self.hear_of(id, &entry, news);
            }
        }
        let mut seen = 0;
        // All entries have to be looked at: changes are rare, and a second index would cost every load.
        if !(news.keys.is_empty() && news.tenants.is_empty()) {
            for (id, entry) in self.found.iter() {
                let itself = entry.record.as_deref().and_then(|record| record.itself_among(news));
                seen += usize::from(itself.is_some_and(may_be_new));
                self.hear_of(&id, &entry, news);
            }
            for (digest, entry) in &self.ahead {
                // It is read again when it is asked for.
                if !unreflected(&entry, news, &self.fence).is_empty() {
                    self.ahead.invalidate(&*digest);
                }
            }
        }
        drop(guard);
        // One that is not here may be a new one, whose absence is; nobody can tell which.
        let arrivals = || R::without_id(news).filter(|news| may_be_new(news));
        let revision = arrivals().filter_map(|news| news.revision).max();
        if revision.is_some() && seen < arrivals().count() {
            drop(self.fence.mark_arrival(revision));
        }
    }

    fn hear_of(&self, id: &I, entry: &Entry<R>, news: &BySubject<News>) {
        let fates = unreflected(entry, news, &self.fence);
        if fates.is_empty() {
            return;
        }
        match ended(entry, &fates) {
            Some(entry) => self.insert(id, Arc::new(entry)),
            None => drop(self.found.remove(id)),
        }
    }

    /// Makes absences end: these are there now.
    pub(super) fn added(&self, ids: &[I], revision: Option<Revision>) {
        let _guard = self.fence.mark_arrival(None);
        for id in ids {
            if let Some(revision) = revision {
                self.written.note(id, revision, None);
            }
            self.absent.invalidate(id);
        }
    }

    /// Takes in what this replica has written: it stands in for whatever is read that is older.
    pub(super) fn put(&self, id: &I, loaded: Loaded<R>) {
        self.written.note(id, loaded.revision, Some(loaded));
    }

    /// Makes ends hold, whatever the database shows without them.
    pub(super) fn hold(&self, ends: &BySubject<News>) {
        let _guard = self.fence.hold(ends);
        for (id, entry) in self.found.iter() {
            self.hear_of(&id, &entry, ends);
        }
        self.ahead.invalidate_all();
    }

    /// Makes everything in memory a stopgap until it is read again.
    pub(super) fn verify_all(&self) {
        self.fence.verify_all();
        // Their positions may be those of another log.
        self.written.clear();
    }
}
