//! Keys in memory: found ones, and the absence of others.
//!
//! Each entry is decided about by its age, the injected clock and the state of the world (`domain::freshness`); moka
//! gives capacity and throws out what nobody asks for. Absences have a pool of their own, so that a flood of unknown
//! keys cannot push known ones out, and are never used beyond their short time.

mod entry;
mod flight;
mod forget;
pub mod oldest;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use moka::sync::Cache;

use self::{entry::Entry, flight::Flight};
use super::coalesced::Coalesced;
use crate::domain::{
    clock::SharedClock,
    freshness::{Lifetimes, Use, World},
    key::{KeyHash, KeyRecord},
    store::{MAX_LOOKUP, Store, StoreError},
    validate::{KeySource, Knowledge},
    verdict::{Revision, Source},
};

/// How much is remembered, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// Most keys in memory.
    pub keys: u64,
    /// Most absences in memory.
    pub absences: u64,
    /// For how long a key is good for what. Each entry's own fresh time is up to 20 % shorter or longer, so that what
    /// was loaded together is not reloaded together.
    pub lifetimes: Lifetimes,
    /// How long an absence is used without asking again.
    pub absent: Duration,
}

/// Tells how the database and its change feed fare.
pub type Outlook = Box<dyn Fn(Duration) -> World + Send + Sync>;

/// A memory in front of a store. Cheap to clone; clones share everything.
pub struct Cached<S>(Arc<Inner<S>>);

struct Inner<S> {
    store: Coalesced<S>,
    clock: SharedClock,
    config: CacheConfig,
    outlook: Outlook,
    keys: Cache<KeyHash, Arc<Entry>>,
    absences: Cache<KeyHash, Arc<Entry>>,
    flights: Mutex<HashMap<KeyHash, Flight>>,
    /// Raised by every [`Forget::forget`]. A load that began under a lower one may have read what was since changed:
    /// its answer goes to those who asked before, and nowhere else. Who writes entries holds it for reading, so that
    /// none can slip in between the raise and the removal.
    epoch: RwLock<u64>,
    /// Entries whose load began under a lower epoch must be verified.
    verify_below: AtomicU64,
    revision: AtomicI64,
}

impl<S> Clone for Cached<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> fmt::Debug for Cached<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").field("config", &self.0.config).finish_non_exhaustive()
    }
}

impl<S: Store> Cached<S> {
    /// Remembers what `store` says.
    pub fn new(store: Coalesced<S>, config: CacheConfig, clock: SharedClock, outlook: Outlook) -> Self {
        let pool = |capacity, lifetime: Duration| {
            // The outer bound; entries are decided about well before.
            Cache::builder().max_capacity(capacity).time_to_live(lifetime).build()
        };
        let Lifetimes { fresh, refresh, grace } = config.lifetimes;
        Self(Arc::new(Inner {
            keys: pool(config.keys, (fresh * 2).max(refresh).max(grace)),
            absences: pool(config.absences, config.absent * 2),
            store,
            clock,
            config,
            outlook,
            flights: Mutex::default(),
            epoch: RwLock::new(0),
            verify_below: AtomicU64::new(0),
            revision: AtomicI64::new(0),
        }))
    }

    /// The highest change-log position seen so far.
    pub fn revision(&self) -> Revision {
        Revision(self.0.revision.load(Ordering::Relaxed))
    }
}

/// What memory has for a key.
enum Recalled {
    Known(Knowledge),
    /// Good for this answer; a reload is due.
    Due(Knowledge),
    Nothing,
}

impl<S> Inner<S> {
    fn recall(&self, hash: &KeyHash) -> Recalled {
        let now = self.clock.monotonic();
        if let Some(entry) = self.keys.get(hash) {
            return match self.decide(&entry, now) {
                Use::Serve(source) => Recalled::Known(entry.knowledge(now, source)),
                Use::ServeAndReload if entry.claim_reload() => {
                    Recalled::Due(entry.knowledge(now, Source::Refreshing))
                }
                Use::ServeAndReload => Recalled::Known(entry.knowledge(now, Source::Refreshing)),
                Use::Reload => Recalled::Nothing,
            };
        }
        match self.absences.get(hash) {
            Some(entry) if entry.age(now) < entry.fresh && !self.must_verify(&entry) => {
                Recalled::Known(entry.knowledge(now, Source::Negative))
            }
            _ => Recalled::Nothing,
        }
    }

    fn decide(&self, entry: &Entry, now: Duration) -> Use {
        let lifetimes = Lifetimes { fresh: entry.fresh, ..self.config.lifetimes };
        lifetimes.decide(entry.age(now), self.must_verify(entry), (self.outlook)(now))
    }

    /// What may stand in for an answer that the database did not give.
    fn stopgap(&self, hash: &KeyHash) -> Option<Knowledge> {
        let now = self.clock.monotonic();
        let entry = self.keys.get(hash)?;
        let lifetimes = Lifetimes { fresh: entry.fresh, ..self.config.lifetimes };
        lifetimes.tides_over(entry.age(now)).then(|| entry.knowledge(now, Source::Stale))
    }

    fn must_verify(&self, entry: &Entry) -> bool {
        entry.epoch < self.verify_below.load(Ordering::Acquire)
    }

    fn epoch(&self) -> RwLockReadGuard<'_, u64> {
        self.epoch.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<KeyHash, Flight>> {
        // Every change to the map is one call that cannot be left half-done.
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, hash: KeyHash, entry: Arc<Entry>) {
        if entry.record.is_some() {
            self.absences.invalidate(&hash);
            self.keys.insert(hash, entry);
        } else {
            self.keys.invalidate(&hash);
            self.absences.insert(hash, entry);
        }
    }
}

impl<S: Store> Inner<S> {
    /// Reads up to [`MAX_LOOKUP`] keys, and remembers them unless something was forgotten meanwhile.
    async fn load(
        &self,
        known: bool,
        hashes: Arc<[KeyHash]>,
        epoch: u64,
    ) -> Result<Vec<Knowledge>, StoreError> {
        let loaded_at = self.clock.monotonic();
        let found = self.store.lookup(known, Arc::clone(&hashes)).await?;
        let now = self.clock.monotonic();
        let entry = |(hash, (record, revision)): (&KeyHash, (Option<KeyRecord>, Revision))| {
            self.revision.fetch_max(revision.0, Ordering::Relaxed);
            let fresh = match record {
                Some(_) => jittered(self.config.lifetimes.fresh, hash),
                None => self.config.absent,
            };
            Arc::new(Entry::new(record, revision, loaded_at, fresh, epoch))
        };
        let entries: Vec<_> = hashes.iter().zip(found).map(entry).collect();
        let current = self.epoch();
        if *current == epoch {
            for (hash, entry) in hashes.iter().zip(&entries) {
                self.remember(*hash, Arc::clone(entry));
            }
        }
        drop(current);
        Ok(entries.iter().map(|entry| entry.knowledge(now, Source::Database)).collect())
    }
}

/// Up to 20 % shorter or longer, by the key's own hash: spread out, and the same on every run.
fn jittered(lifetime: Duration, hash: &KeyHash) -> Duration {
    let [.., drawn] = *hash.as_bytes();
    lifetime.mul_f64(0.8 + 0.4 * f64::from(drawn) / 255.0)
}

impl<S: Store> KeySource for Cached<S> {
    fn recall(&self, hash: &KeyHash) -> Option<Knowledge> {
        match self.0.recall(hash) {
            Recalled::Known(knowledge) => Some(knowledge),
            Recalled::Due(knowledge) => {
                // The load runs by itself; nobody waits for it here.
                drop(self.join(&[*hash], true));
                Some(knowledge)
            }
            Recalled::Nothing => None,
        }
    }

    async fn fetch(&self, hashes: &[KeyHash], deadline: Instant) -> Vec<Result<Knowledge, StoreError>> {
        let waits = self.join(hashes, false);
        let mut outcomes = Vec::with_capacity(hashes.len());
        for (hash, wait) in hashes.iter().zip(waits) {
            outcomes.push(match wait {
                Wait::Known(knowledge) => Ok(knowledge),
                Wait::For(flight) => match flight.land(hash, deadline).await {
                    Ok(knowledge) => Ok(knowledge),
                    Err(error) => self.0.stopgap(hash).ok_or(error),
                },
            });
        }
        outcomes
    }
}

enum Wait {
    Known(Knowledge),
    For(Flight),
}

impl<S: Store> Cached<S> {
    /// Finds for each key the load under way, or starts one; keys that nobody has asked for yet share theirs.
    /// `anyway`: even if memory has an answer.
    fn join(&self, hashes: &[KeyHash], anyway: bool) -> Vec<Wait> {
        let epoch = *self.0.epoch();
        let mut flights = self.0.flights();
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        let waits: Vec<Option<Wait>> = hashes
            .iter()
            .map(|hash| {
                if let Some(flight) = flights.get(hash).filter(|flight| flight.epoch == epoch) {
                    return Some(Wait::For(flight.clone()));
                }
                // A load may have ended between the look into memory and this one.
                match self.0.recall(hash) {
                    Recalled::Known(knowledge) if !anyway => return Some(Wait::Known(knowledge)),
                    Recalled::Known(_) | Recalled::Due(_) | Recalled::Nothing => {}
                }
                let lane = if self.0.keys.contains_key(hash) { &mut known } else { &mut unknown };
                lane.push(*hash);
                None
            })
            .collect();
        for (is_known, mut missing) in [(true, known), (false, unknown)] {
            missing.sort_unstable();
            missing.dedup();
            for together in missing.chunks(MAX_LOOKUP) {
                let flight = self.depart(is_known, together.into(), epoch);
                flights.extend(together.iter().map(|hash| (*hash, flight.clone())));
            }
        }
        let departed = |hash| Wait::For(flights[hash].clone());
        hashes.iter().zip(waits).map(|(hash, wait)| wait.unwrap_or_else(|| departed(hash))).collect()
    }

    /// Starts a load in a task of its own: a caller that gives up must not end it for the others.
    fn depart(&self, known: bool, hashes: Arc<[KeyHash]>, epoch: u64) -> Flight {
        let inner = Arc::clone(&self.0);
        Flight::depart(epoch, Arc::clone(&hashes), async move {
            let _landed = Landed { inner: &inner, hashes: &hashes, epoch };
            let outcome = inner.load(known, Arc::clone(&hashes), epoch).await;
            // What is still there was not replaced, after a failure or a change meanwhile: the next who needs it asks.
            for entry in hashes.iter().filter_map(|hash| inner.keys.get(hash)) {
                entry.release_reload();
            }
            outcome
        })
    }
}

/// Takes a load off the list when it ends, however it ends.
struct Landed<'a, S> {
    inner: &'a Inner<S>,
    hashes: &'a [KeyHash],
    epoch: u64,
}

impl<S> Drop for Landed<'_, S> {
    fn drop(&mut self) {
        let mut flights = self.inner.flights();
        for hash in self.hashes {
            // A later load, under a higher epoch, may have taken the place.
            if flights.get(hash).is_some_and(|flight| flight.epoch == self.epoch) {
                flights.remove(hash);
            }
        }
    }
}
