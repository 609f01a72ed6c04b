//! What is in memory: found records, absences, and what was read ahead at the start.
//!
//! Nothing here waits. quick_cache and moka give capacity and throw out what nobody asks for; what an entry is still
//! good for is decided by its age, the injected clock and the state of the world (`domain::freshness`). Absences have a
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
    entry::Entry,
    evicted::{Displaced, Evicted},
    fates::ended,
    fence::{Epoch, Fence, Judgement},
    sync::{AtomicBool, Ordering},
    weight::{self, ByLength},
    written::Written,
};
use crate::domain::{
    change::Record,
    freshness::{Lifetimes, Use, World},
    grace::{Grace, MAX_GRACE},
    knowledge::Knowledge,
    reuse::Reuse,
    verdict::{Revision, Source},
};

/// How many bytes name a record in the database.
pub(super) type Digest = [u8; 32];

/// Entries by id, and the fence around them.
pub(super) struct Pool<I, R> {
    config: CacheConfig,
    grace: Arc<Grace>,
    pub(super) fence: Fence,
    pub(super) found: Found<I, Arc<Entry<R>>, ByLength, DefaultHashBuilder, Evicted>,
    pub(super) absent: Cache<I, Arc<Entry<R>>>,
    /// Read ahead, by the digest under which the database knows it; moves to `found` when asked for.
    pub(super) ahead: Cache<Digest, Arc<Entry<R>>>,
    /// Whether there ever was anything: without, no digest has to be made to look for it.
    was_ahead: AtomicBool,
    /// What this replica has written, and where the log ended with it: nothing read before that is believed about it.
    pub(super) written: Written<I, R>,
    /// Records and absences that had to go for want of room.
    evicted: Evicted,
}

/// What memory has for an id.
#[derive(Debug)]
pub(super) enum Recalled<R> {
    Known(Knowledge<R>),
    /// Good for this answer; a reload is due, and the caller has claimed it.
    Due(Knowledge<R>),
    Nothing,
}

/// One record, or its absence, as read.
#[derive(Clone, Debug)]
pub(super) struct Loaded<R> {
    pub(super) record: Option<R>,
    pub(super) revision: Revision,
    /// By the monotonic clock, from before the read.
    pub(super) loaded_at: Duration,
    /// The epoch, from before the read.
    pub(super) began: Epoch,
    /// Whether it is older than what was known before the read.
    pub(super) lags: bool,
}

/// What came of a load.
#[derive(Debug)]
pub(super) struct Settled<R> {
    pub(super) knowledge: Knowledge<R>,
    /// Whoever asked under this epoch or a higher one has to ask again.
    pub(super) overtaken: Option<Epoch>,
    /// It is older than what is known, and not to be believed.
    pub(super) lags: bool,
}

impl<R> Clone for Settled<R> {
    fn clone(&self) -> Self {
        Self { knowledge: self.knowledge.clone(), overtaken: self.overtaken, lags: self.lags }
    }
}

impl<I, R> Pool<I, R>
where
    I: Clone + Eq + Hash + Send + Sync + 'static,
    R: Record<Id = I>,
{
    pub(super) fn new(config: CacheConfig, grace: Arc<Grace>) -> Self {
        let evicted = Evicted::default();
        let absences = evicted.clone();
        let most = usize::try_from(config.keys).unwrap_or(usize::MAX);
        Self {
            config,
            grace,
            fence: Fence::new(),
            found: Found::with(most, config.keys, ByLength, DefaultHashBuilder::default(), evicted.clone()),
            absent: Cache::builder()
                .max_capacity(config.absences)
                .time_to_live(config.absent * 2)
                .eviction_listener(move |_, _, cause| absences.absence(cause))
                .build(),
            ahead: Cache::builder()
                .max_capacity(config.keys)
                .weigher(|_, entry: &Arc<Entry<R>>| weight::small_of(entry.record.as_deref()))
                .time_to_live(LONGEST)
                .build(),
            was_ahead: AtomicBool::new(false),
            written: Written::new(),
            evicted,
        }
    }

    /// The epoch, to be taken before a read begins and by whoever asks.
    pub(super) fn epoch(&self) -> Epoch {
        self.fence.epoch()
    }

    pub(super) fn recall(&self, id: &I, now: Duration, world: impl FnOnce() -> World) -> Recalled<R> {
        if let Some(entry) = self.found.get(id) {
            return match self.decide(&entry, now, world()) {
                Use::Serve(source) => Recalled::Known(self.knowledge(&entry, now, source)),
                Use::ServeAndReload(source) if entry.claim_reload() => {
                    Recalled::Due(self.knowledge(&entry, now, source))
                }
                Use::ServeAndReload(source) => Recalled::Known(self.knowledge(&entry, now, source)),
                Use::Reload => Recalled::Nothing,
            };
        }
        match self.absent.get(id) {
            Some(entry) if entry.age(now) < entry.fresh && self.fence.may_be_absent(entry.began) => {
                Recalled::Known(self.knowledge(&entry, now, Source::Negative))
            }
            _ => Recalled::Nothing,
        }
    }

    fn knowledge(&self, entry: &Entry<R>, now: Duration, source: Source) -> Knowledge<R> {
        entry.knowledge(now, source, self.config.reuse_watched)
    }

    pub(super) fn decide(&self, entry: &Entry<R>, now: Duration, world: World) -> Use {
        self.lifetimes(entry, now).decide(
            entry.age(now),
            entry.outdated || self.fence.must_verify(entry.began),
            world,
        )
    }

    fn lifetimes(&self, entry: &Entry<R>, now: Duration) -> Lifetimes {
        Lifetimes { fresh: entry.fresh, grace: self.grace.at(now), ..self.config.lifetimes }
    }

    /// What may stand in for an answer that the database did not give.
    pub(super) fn stopgap(&self, id: &I, now: Duration) -> Option<Knowledge<R>> {
        let entry = self.found.get(id)?;
        self.lifetimes(&entry, now)
            .tides_over(entry.age(now))
            .then(|| self.knowledge(&entry, now, Source::Stale))
    }

    /// Whether there is a record in memory, good or not.
    pub(super) fn is_known(&self, id: &I) -> bool {
        self.found.contains_key(id)
    }

    /// Says that a reload is over. What is still there was not replaced, after a failure or a change meanwhile: the next
    /// who needs it asks.
    pub(super) fn release_reload(&self, id: &I) {
        if let Some(entry) = self.found.get(id) {
            entry.release_reload();
        }
    }

    /// Takes in what was read, unless news have overtaken it. `drawn` spreads the entry's fresh time by up to 20 %, so
    /// that what was loaded together is not reloaded together.
    pub(super) fn settle(&self, id: &I, loaded: Loaded<R>, drawn: u8, now: Duration) -> Settled<R> {
        let ledger = self.fence.settling();
        let loaded = match self.written.after(id, loaded.revision) {
            None => loaded,
            // This replica knows better than the copy that it has read from.
            Some(Some(own)) => Loaded { began: loaded.began, ..own },
            Some(None) => Loaded { lags: true, ..loaded },
        };
        let judgement = match &loaded.record {
            Some(record) => ledger.judge(record, loaded.began, loaded.revision),
            None => ledger.judge_absence::<R>(id, loaded.began, loaded.revision),
        };
        // An end is an end, however old the rest is.
        let judgement = match judgement {
            Judgement::Ended(fates) => Judgement::Ended(fates),
            Judgement::Holds | Judgement::Overtaken(_) | Judgement::Lags if loaded.lags => Judgement::Lags,
            judgement => judgement,
        };
        let mut entry = self.entry(loaded, drawn);
        let entry = match &judgement {
            Judgement::Holds => self.remember(id, Arc::new(entry)),
            Judgement::Ended(fates) => match ended(&entry, fates) {
                Some(entry) => self.remember(id, Arc::new(entry)),
                None => Arc::new(entry),
            },
            // It answers those who asked before the change, and is good for nothing else.
            Judgement::Overtaken(_) | Judgement::Lags => {
                entry.outdated = true;
                Arc::new(entry)
            }
        };
        drop(ledger);
        let overtaken = match judgement {
            Judgement::Overtaken(epoch) => Some(epoch),
            Judgement::Holds | Judgement::Ended(_) | Judgement::Lags => None,
        };
        let lags = judgement == Judgement::Lags;
        Settled { knowledge: self.knowledge(&entry, now, Source::Database), overtaken, lags }
    }

    /// What came of a load from a copy that stands still: a record stands in for an answer while it is within the grace, and an
    /// absence is none.
    pub(super) fn as_of_then(&self, mut settled: Settled<R>) -> Settled<R> {
        let Knowledge { record, provenance } = &mut settled.knowledge;
        let usable = record.is_some() && self.config.lifetimes.tides_over(provenance.age);
        (provenance.source, provenance.reuse) = (Source::Stale, Reuse::NONE);
        settled.lags |= !usable;
        settled
    }

    /// Lets go of what is in memory of a record that a read found and nobody can read: it is not what was known. An end that
    /// is known stays, and what was read at a later position. Gives the epoch from which on whoever asked has to ask again.
    pub(super) fn not_read(&self, id: &I, began: Epoch, revision: Revision) -> Option<Epoch> {
        let _ledger = self.fence.settling();
        let is_older = |found: &Arc<Entry<R>>| {
            !found.outdated && (found.revision <= revision || self.fence.must_verify(found.began))
        };
        self.found.remove_if(id, is_older);
        self.absent.invalidate(id);
        (self.fence.epoch() > began).then_some(began + 1)
    }

    fn entry(&self, loaded: Loaded<R>, drawn: u8) -> Entry<R> {
        let Loaded { record, revision, loaded_at, began, .. } = loaded;
        let fresh = match record {
            Some(_) => self.config.lifetimes.fresh.mul_f64(0.8 + 0.4 * f64::from(drawn) / 255.0),
            None => self.config.absent,
        };
        Entry::new(record, revision, loaded_at, fresh, began)
    }

    /// Writes the entry of a record.
    pub(super) fn insert(&self, id: &I, entry: Arc<Entry<R>>) {
        let mut displaced = Displaced::default();
        self.found.insert_with_lifecycle(id.clone(), Arc::clone(&entry), &mut displaced);
        self.evicted.records(&displaced, id, &entry);
    }

    /// Writes an entry, and gives what is in memory then.
    ///
    /// Two answers about one id can come at once, and the news tell only of the record once that is here: an absence must
    /// not take the place of a record that was read at a later position of the log.
    fn remember(&self, id: &I, entry: Arc<Entry<R>>) -> Arc<Entry<R>> {
        if entry.record.is_some() {
            self.insert(id, Arc::clone(&entry));
            self.absent.invalidate(id);
            return entry;
        }
        let is_older =
            |found: &Arc<Entry<R>>| found.revision <= entry.revision || self.fence.must_verify(found.began);
        self.found.remove_if(id, is_older);
        self.absent.insert(id.clone(), Arc::clone(&entry));
        // Looked for after the absence was written, as the absence of a record is removed after that was written: whichever
        // comes second sees the other.
        match self.found.peek(id) {
            Some(found) => {
                self.absent.invalidate(id);
                found
            }
            None => entry,
        }
    }

    /// Takes in what was read ahead, unless news have overtaken it or there is no room left.
    pub(super) fn settle_ahead(&self, digest: Digest, loaded: Loaded<R>) {
        let ledger = self.fence.settling();
        let Some(record) = &loaded.record else { return };
        if ledger.judge(record, loaded.began, loaded.revision) == Judgement::Holds {
            let [.., drawn] = digest;
            self.ahead.insert(digest, Arc::new(self.entry(loaded, drawn)));
            self.was_ahead.store(true, Ordering::Release);
        }
    }

    /// Moves what was read ahead to where it is found. Whether there was anything.
    pub(super) fn take_ahead(&self, id: &I, digests: impl FnOnce() -> Vec<Digest>) -> bool {
        if !self.was_ahead.load(Ordering::Acquire) || self.found.contains_key(id) {
            return false;
        }
        // News would miss an entry that is in neither place.
        let _ledger = self.fence.settling();
        let entry = digests().iter().find_map(|digest| self.ahead.remove(digest));
        entry.map(|entry| self.insert(id, entry)).is_some()
    }

    /// Lets go of what is too old for everything, and only takes up room.
    pub(super) fn sweep(&self, now: Duration) {
        self.found.retain(|_, entry| entry.age(now) <= LONGEST);
    }

    /// When each record was read, by the monotonic clock; those that were read ahead and not asked for are left out.
    pub(super) fn loaded_at(&self) -> Vec<Duration> {
        self.found.iter().map(|(_, entry)| entry.loaded_at).collect()
    }

    /// How many records and absences there are.
    pub(super) fn size(&self) -> (u64, u64) {
        // What is due to go does not count.
        self.ahead.run_pending_tasks();
        self.absent.run_pending_tasks();
        (self.found.len() as u64 + self.ahead.entry_count(), self.absent.entry_count())
    }

    /// How many records and absences had to go for want of room.
    pub(super) fn evicted(&self) -> (u64, u64) {
        self.evicted.counts()
    }
}

/// After this nothing is good for anything: the outer bound, entries are decided about well before. Whatever grace is configured,
/// because a longer one can be set while the database is away, and must find what it is for.
const LONGEST: Duration = MAX_GRACE;
