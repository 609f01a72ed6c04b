//! The fence between what was read and what has changed since.
//!
//! Every piece of news raises the epoch and leaves a mark. A load notes the epoch before it reads; when it comes back,
//! the marks tell whether its answer still holds. Whoever writes entries holds the ledger for reading, whoever brings
//! news holds it for writing, so that nothing read before a change can slip in behind it.

use std::{collections::HashMap, hash::Hash};

use super::sync::{AtomicU64, Ordering, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use crate::domain::{
    change::{CacheableRecord, ChangeEvent, ChangeKind, PerSubject},
    id::KeyId,
    verdict::Revision,
};

/// A point in the order of news: what began under an epoch began before all news of a higher one.
pub(super) type Epoch = u64;

/// After this many marks the older half is dropped. What began before a dropped mark counts as overtaken.
const MAX_MARKS: usize = 20_000;

/// The epoch, and the marks under a lock.
#[derive(Debug)]
pub(super) struct Fence {
    epoch: AtomicU64,
    /// What was loaded under a lower epoch must be verified.
    revalidate_below: AtomicU64,
    /// What was found absent under a lower epoch may have arrived since.
    negative_valid_from: AtomicU64,
    marks: RwLock<ChangeMarks>,
}

/// The marks that news have left.
#[derive(Debug, Default)]
pub(super) struct ChangeMarks {
    recent: PerSubject<ChangeMark>,
    older: PerSubject<ChangeMark>,
    /// Nothing is known about what changed before this epoch.
    floor: Epoch,
    /// The last news about something that was not in memory.
    last_creation: Option<ChangeMark>,
    /// Ends that are known of what the database may show without them.
    held: PerSubject<ChangeKind>,
}

/// The latest news, and the epoch they were heard under.
#[derive(Clone, Copy, Debug)]
struct ChangeMark {
    epoch: Epoch,
    event: ChangeEvent,
    /// The epoch of a change after them that may have been made.
    attempted_epoch: Option<Epoch>,
}

/// What has become of an answer while it was under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FenceVerdict {
    /// It reflects all that was heard.
    UpToDate,
    /// It lacks these ends, which are known.
    Revoked(Vec<ChangeKind>),
    /// It may lack a change. Whoever asked under this epoch or a higher one has to ask again.
    Superseded(Epoch),
    /// It was read after a change that it lacks: the database that answered lags behind. To ask again is of no use yet.
    Lagging,
}

impl Fence {
    pub(super) fn new() -> Self {
        Self {
            epoch: AtomicU64::new(0),
            revalidate_below: AtomicU64::new(0),
            negative_valid_from: AtomicU64::new(0),
            marks: RwLock::new(ChangeMarks::default()),
        }
    }

    /// The epoch, to be taken before a read begins.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether what was loaded under an epoch must be verified before it is relied on.
    pub(super) fn needs_revalidation(&self, began: Epoch) -> bool {
        began < self.revalidate_below.load(Ordering::Acquire)
    }

    /// Whether what was found absent under an epoch may still be.
    pub(super) fn is_negative_valid(&self, began: Epoch) -> bool {
        began >= self.negative_valid_from.load(Ordering::Acquire) && !self.needs_revalidation(began)
    }

    /// Keeps news away for as long as entries are written.
    pub(super) fn lock_for_insert(&self) -> RwLockReadGuard<'_, ChangeMarks> {
        // Marks are whole even if whoever wrote them panicked.
        self.marks.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last change of a key that was told and is remembered.
    pub(super) fn last_change(&self, key: &KeyId) -> Option<ChangeEvent> {
        let ledger = self.lock_for_insert();
        let mark = ledger.recent.keys.get(key).or_else(|| ledger.older.keys.get(key));
        let held = || ledger.held.keys.get(key).map(|fate| ChangeEvent { kind: *fate, revision: None });
        mark.map(|mark| mark.event).or_else(held)
    }

    /// Leaves marks. Entries that the news contradict have to go before the returned guard does.
    pub(super) fn record_changes(&self, news: &PerSubject<ChangeEvent>) -> RwLockWriteGuard<'_, ChangeMarks> {
        let (mut ledger, epoch) = self.advance_epoch();
        if ledger.recent.len() + news.len() > MAX_MARKS / 2 {
            ledger.older = std::mem::take(&mut ledger.recent);
            ledger.floor = epoch;
        }
        ledger.release_held(news);
        record_marks(&mut ledger.recent.keys, &news.keys, epoch);
        record_marks(&mut ledger.recent.tenants, &news.tenants, epoch);
        record_marks(&mut ledger.recent.sessions, &news.sessions, epoch);
        ledger
    }

    /// Leaves a mark for something that may have been absent before. Without a revision it is known by its id, and its
    /// absence has to go before the returned guard does; with one, nobody can tell which absence it ends, so all do.
    pub(super) fn record_creation(&self, revision: Option<Revision>) -> RwLockWriteGuard<'_, ChangeMarks> {
        let (mut ledger, epoch) = self.advance_epoch();
        if revision.is_some() {
            self.negative_valid_from.store(epoch, Ordering::Release);
        }
        ledger.last_creation =
            Some(ChangeMark::new(epoch, ChangeEvent { kind: ChangeKind::Changed, revision }));
        ledger
    }

    /// Makes everything that was loaded, or is being loaded, count as unverified.
    pub(super) fn require_revalidation(&self) {
        let (mut ledger, epoch) = self.advance_epoch();
        // Their positions may be those of another log.
        let held = std::mem::take(&mut ledger.held);
        *ledger = ChangeMarks { floor: epoch, held, ..ChangeMarks::default() };
        self.revalidate_below.store(epoch, Ordering::Release);
    }

    /// Makes ends hold, whatever is read without them.
    pub(super) fn hold_revocations(
        &self,
        ends: &PerSubject<ChangeEvent>,
    ) -> RwLockWriteGuard<'_, ChangeMarks> {
        let (mut ledger, _) = self.advance_epoch();
        extend_held(&mut ledger.held.keys, &ends.keys);
        extend_held(&mut ledger.held.tenants, &ends.tenants);
        extend_held(&mut ledger.held.sessions, &ends.sessions);
        ledger
    }

    fn advance_epoch(&self) -> (RwLockWriteGuard<'_, ChangeMarks>, Epoch) {
        let ledger = self.marks.write().unwrap_or_else(PoisonError::into_inner);
        let epoch = self.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        (ledger, epoch)
    }
}

fn record_marks<I: Clone + Eq + Hash>(
    marks: &mut HashMap<I, ChangeMark>,
    news: &HashMap<I, ChangeEvent>,
    epoch: Epoch,
) {
    for (id, news) in news {
        marks
            .entry(id.clone())
            .and_modify(|mark| mark.merge(*news, epoch))
            .or_insert(ChangeMark::new(epoch, *news));
    }
}

fn extend_held<I: Clone + Eq + Hash>(held: &mut HashMap<I, ChangeKind>, ends: &HashMap<I, ChangeEvent>) {
    held.extend(ends.iter().map(|(id, news)| (id.clone(), news.kind)));
}

impl ChangeMarks {
    /// The database tells of a change: from here on it is right about what it is about. Of one without a revision nobody knows
    /// whether it was made.
    fn release_held(&mut self, news: &PerSubject<ChangeEvent>) {
        let is_told = |news: Option<&ChangeEvent>| news.is_some_and(|news| news.revision.is_some());
        self.held.keys.retain(|id, _| !is_told(news.keys.get(id)));
        self.held.tenants.retain(|id, _| !is_told(news.tenants.get(id)));
        self.held.sessions.retain(|id, _| !is_told(news.sessions.get(id)));
    }

    /// Judges a record that a load which began under an epoch read at a revision.
    pub(super) fn evaluate<R: CacheableRecord>(
        &self,
        record: &R,
        began: Epoch,
        revision: Revision,
    ) -> FenceVerdict {
        if began < self.floor {
            return FenceVerdict::Superseded(self.floor);
        }
        let (mut ends, mut overtaken, mut lags) = (Vec::new(), None, false);
        for mark in record.dependency_values(&self.recent).chain(record.dependency_values(&self.older)) {
            overtaken = overtaken.max(mark.attempted_epoch.filter(|attempted| began < *attempted));
            if mark.is_reflected(began, revision) {
                continue;
            }
            match mark.event.kind {
                ChangeKind::Revoked(_) | ChangeKind::Suspended | ChangeKind::Unbound => {
                    ends.push(mark.event.kind)
                }
                ChangeKind::Changed if began < mark.epoch => overtaken = overtaken.max(Some(mark.epoch)),
                ChangeKind::Changed => lags = true,
            }
        }
        ends.extend(record.dependency_values(&self.held).filter(|fate| !record.reflects(**fate)));
        match overtaken {
            // An end is an end, whatever else may have changed.
            _ if !ends.is_empty() => FenceVerdict::Revoked(ends),
            Some(epoch) => FenceVerdict::Superseded(epoch),
            None if lags => FenceVerdict::Lagging,
            None => FenceVerdict::UpToDate,
        }
    }

    /// Judges the absence of an id.
    pub(super) fn evaluate_negative<R: CacheableRecord>(
        &self,
        id: &R::Id,
        began: Epoch,
        revision: Revision,
    ) -> FenceVerdict {
        if began < self.floor {
            return FenceVerdict::Superseded(self.floor);
        }
        let named = [&self.recent, &self.older].into_iter().filter_map(|marks| R::value_for_id(id, marks));
        let mut lags = false;
        for mark in named.chain(&self.last_creation) {
            if let Some(attempted) = mark.attempted_epoch.filter(|attempted| began < *attempted) {
                return FenceVerdict::Superseded(attempted);
            }
            if mark.is_reflected(began, revision) {
                continue;
            }
            if began < mark.epoch {
                return FenceVerdict::Superseded(mark.epoch);
            }
            lags = true;
        }
        if lags { FenceVerdict::Lagging } else { FenceVerdict::UpToDate }
    }
}

impl ChangeMark {
    fn new(epoch: Epoch, news: ChangeEvent) -> Self {
        Self { epoch, event: news, attempted_epoch: None }
    }

    /// A copy that lags may tell of a change after this replica has made a later one, and what may not have been made takes
    /// nothing away from what was.
    fn merge(&mut self, news: ChangeEvent, epoch: Epoch) {
        match (self.event.revision, news.revision) {
            (Some(known), Some(told)) if told < known => {}
            (Some(_), None) => self.attempted_epoch = Some(epoch),
            _ => *self = Self::new(epoch, news),
        }
    }

    /// Whether a read reflects the change: by its position in the log, or, for a change without one, by having begun
    /// after it was told.
    fn is_reflected(&self, began: Epoch, revision: Revision) -> bool {
        self.event.revision.map_or(began >= self.epoch, |changed_at| revision >= changed_at)
    }
}
