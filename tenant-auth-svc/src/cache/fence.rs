//! The fence between what was read and what has changed since.
//!
//! Every piece of news raises the epoch and leaves a mark. A load notes the epoch before it reads; when it comes back,
//! the marks tell whether its answer still holds. Whoever writes entries holds the ledger for reading, whoever brings
//! news holds it for writing, so that nothing read before a change can slip in behind it.

use std::{collections::HashMap, hash::Hash};

use super::sync::{AtomicU64, Ordering, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use crate::domain::{
    change::{BySubject, Fate, News, Record},
    id::KeyId,
    verdict::Revision,
};

/// A point in the order of news: what began under an epoch began before all news of a higher one.
pub(super) type Epoch = u64;

/// After this many marks the older half is dropped. What began before a dropped mark counts as overtaken.
const MOST_MARKS: usize = 20_000;

/// The epoch, and the marks under a lock.
#[derive(Debug)]
pub(super) struct Fence {
    epoch: AtomicU64,
    /// What was loaded under a lower epoch must be verified.
    verify_below: AtomicU64,
    /// What was found absent under a lower epoch may have arrived since.
    absent_from: AtomicU64,
    ledger: RwLock<Ledger>,
}

/// The marks that news have left.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    recent: BySubject<Mark>,
    older: BySubject<Mark>,
    /// Nothing is known about what changed before this epoch.
    floor: Epoch,
    /// The last news about something that was not in memory.
    arrival: Option<Mark>,
    /// Ends that are known of what the database may show without them.
    held: BySubject<Fate>,
}

/// The latest news, and the epoch they were heard under.
#[derive(Clone, Copy, Debug)]
struct Mark {
    epoch: Epoch,
    news: News,
    /// The epoch of a change after them that may have been made.
    attempted: Option<Epoch>,
}

/// What has become of an answer while it was under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It reflects all that was heard.
    Holds,
    /// It lacks these ends, which are known.
    Ended(Vec<Fate>),
    /// It may lack a change. Whoever asked under this epoch or a higher one has to ask again.
    Overtaken(Epoch),
    /// It was read after a change that it lacks: the database that answered lags behind. To ask again is of no use yet.
    Lags,
}

impl Fence {
    pub(super) fn new() -> Self {
        Self {
            epoch: AtomicU64::new(0),
            verify_below: AtomicU64::new(0),
            absent_from: AtomicU64::new(0),
            ledger: RwLock::new(Ledger::default()),
        }
    }

    /// The epoch, to be taken before a read begins.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether what was loaded under an epoch must be verified before it is relied on.
    pub(super) fn must_verify(&self, began: Epoch) -> bool {
        began < self.verify_below.load(Ordering::Acquire)
    }

    /// Whether what was found absent under an epoch may still be.
    pub(super) fn may_be_absent(&self, began: Epoch) -> bool {
        began >= self.absent_from.load(Ordering::Acquire) && !self.must_verify(began)
    }

    /// Keeps news away for as long as entries are written.
    pub(super) fn settling(&self) -> RwLockReadGuard<'_, Ledger> {
        // Marks are whole even if whoever wrote them panicked.
        self.ledger.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last change of a key that was told and is remembered.
    pub(super) fn heard(&self, key: &KeyId) -> Option<News> {
        let ledger = self.settling();
        let mark = ledger.recent.keys.get(key).or_else(|| ledger.older.keys.get(key));
        let held = || ledger.held.keys.get(key).map(|fate| News { fate: *fate, revision: None });
        mark.map(|mark| mark.news).or_else(held)
    }

    /// Leaves marks. Entries that the news contradict have to go before the returned guard does.
    pub(super) fn mark(&self, news: &BySubject<News>) -> RwLockWriteGuard<'_, Ledger> {
        let (mut ledger, epoch) = self.raise();
        if ledger.recent.len() + news.len() > MOST_MARKS / 2 {
            ledger.older = std::mem::take(&mut ledger.recent);
            ledger.floor = epoch;
        }
        ledger.release(news);
        leave(&mut ledger.recent.keys, &news.keys, epoch);
        leave(&mut ledger.recent.tenants, &news.tenants, epoch);
        leave(&mut ledger.recent.sessions, &news.sessions, epoch);
        ledger
    }

    /// Leaves a mark for something that may have been absent before. Without a revision it is known by its id, and its
    /// absence has to go before the returned guard does; with one, nobody can tell which absence it ends, so all do.
    pub(super) fn mark_arrival(&self, revision: Option<Revision>) -> RwLockWriteGuard<'_, Ledger> {
        let (mut ledger, epoch) = self.raise();
        if revision.is_some() {
            self.absent_from.store(epoch, Ordering::Release);
        }
        ledger.arrival = Some(Mark::new(epoch, News { fate: Fate::Changed, revision }));
        ledger
    }

    /// Makes everything that was loaded, or is being loaded, count as unverified.
    pub(super) fn verify_all(&self) {
        let (mut ledger, epoch) = self.raise();
        // Their positions may be those of another log.
        let held = std::mem::take(&mut ledger.held);
        *ledger = Ledger { floor: epoch, held, ..Ledger::default() };
        self.verify_below.store(epoch, Ordering::Release);
    }

    /// Makes ends hold, whatever is read without them.
    pub(super) fn hold(&self, ends: &BySubject<News>) -> RwLockWriteGuard<'_, Ledger> {
        let (mut ledger, _) = self.raise();
        hold(&mut ledger.held.keys, &ends.keys);
        hold(&mut ledger.held.tenants, &ends.tenants);
        hold(&mut ledger.held.sessions, &ends.sessions);
        ledger
    }

    fn raise(&self) -> (RwLockWriteGuard<'_, Ledger>, Epoch) {
        let ledger = self.ledger.write().unwrap_or_else(PoisonError::into_inner);
        let epoch = self.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        (ledger, epoch)
    }
}

fn leave<I: Clone + Eq + Hash>(marks: &mut HashMap<I, Mark>, news: &HashMap<I, News>, epoch: Epoch) {
    for (id, news) in news {
        marks
            .entry(id.clone())
            .and_modify(|mark| mark.take_in(*news, epoch))
            .or_insert(Mark::new(epoch, *news));
    }
}

fn hold<I: Clone + Eq + Hash>(held: &mut HashMap<I, Fate>, ends: &HashMap<I, News>) {
    held.extend(ends.iter().map(|(id, news)| (id.clone(), news.fate)));
}

impl Ledger {
    /// The database tells of a change: from here on it is right about what it is about. Of one without a revision nobody knows
    /// whether it was made.
    fn release(&mut self, news: &BySubject<News>) {
        let is_told = |news: Option<&News>| news.is_some_and(|news| news.revision.is_some());
        self.held.keys.retain(|id, _| !is_told(news.keys.get(id)));
        self.held.tenants.retain(|id, _| !is_told(news.tenants.get(id)));
        self.held.sessions.retain(|id, _| !is_told(news.sessions.get(id)));
    }

    /// Judges a record that a load which began under an epoch read at a revision.
    pub(super) fn judge<R: Record>(&self, record: &R, began: Epoch, revision: Revision) -> Judgement {
        if began < self.floor {
            return Judgement::Overtaken(self.floor);
        }
        let (mut ends, mut overtaken, mut lags) = (Vec::new(), None, false);
        for mark in record.among(&self.recent).chain(record.among(&self.older)) {
            overtaken = overtaken.max(mark.attempted.filter(|attempted| began < *attempted));
            if mark.is_reflected(began, revision) {
                continue;
            }
            match mark.news.fate {
                Fate::Revoked(_) | Fate::Suspended | Fate::Unbound => ends.push(mark.news.fate),
                Fate::Changed if began < mark.epoch => overtaken = overtaken.max(Some(mark.epoch)),
                Fate::Changed => lags = true,
            }
        }
        ends.extend(record.among(&self.held).filter(|fate| !record.shows(**fate)));
        match overtaken {
            // An end is an end, whatever else may have changed.
            _ if !ends.is_empty() => Judgement::Ended(ends),
            Some(epoch) => Judgement::Overtaken(epoch),
            None if lags => Judgement::Lags,
            None => Judgement::Holds,
        }
    }

    /// Judges the absence of an id.
    pub(super) fn judge_absence<R: Record>(&self, id: &R::Id, began: Epoch, revision: Revision) -> Judgement {
        if began < self.floor {
            return Judgement::Overtaken(self.floor);
        }
        let named = [&self.recent, &self.older].into_iter().filter_map(|marks| R::of_id(id, marks));
        let mut lags = false;
        for mark in named.chain(&self.arrival) {
            if let Some(attempted) = mark.attempted.filter(|attempted| began < *attempted) {
                return Judgement::Overtaken(attempted);
            }
            if mark.is_reflected(began, revision) {
                continue;
            }
            if began < mark.epoch {
                return Judgement::Overtaken(mark.epoch);
            }
            lags = true;
        }
        if lags { Judgement::Lags } else { Judgement::Holds }
    }
}

impl Mark {
    fn new(epoch: Epoch, news: News) -> Self {
        Self { epoch, news, attempted: None }
    }

    /// A copy that lags may tell of a change after this replica has made a later one, and what may not have been made takes
    /// nothing away from what was.
    fn take_in(&mut self, news: News, epoch: Epoch) {
        match (self.news.revision, news.revision) {
            (Some(known), Some(told)) if told < known => {}
            (Some(_), None) => self.attempted = Some(epoch),
            _ => *self = Self::new(epoch, news),
        }
    }

    /// Whether a read reflects the change: by its position in the log, or, for a change without one, by having begun
    /// after it was told.
    fn is_reflected(&self, began: Epoch, revision: Revision) -> bool {
        self.news.revision.map_or(began >= self.epoch, |changed_at| revision >= changed_at)
    }
}
