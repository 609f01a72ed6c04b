//! Keys in memory: found ones, and the absence of others, for a few seconds.
//!
//! Each entry decides about its own age by the injected clock; moka gives capacity and throws out what nobody asks for.
//! Absences have a pool of their own, so that a flood of unknown keys cannot push known ones out.

mod flight;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use moka::sync::Cache;

use self::flight::Flight;
use crate::domain::{
    admin::{Changed, Forget},
    clock::SharedClock,
    key::{KeyHash, KeyRecord},
    store::{Call, FailureKind, Lane, MAX_LOOKUP, Store, StoreError},
    validate::{KeySource, Knowledge},
    verdict::{Provenance, Revision, Source},
};

/// How much is remembered, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// Most keys in memory.
    pub keys: u64,
    /// Most absences in memory.
    pub absences: u64,
    /// How long a key is used without asking again. Each entry's own time is up to 20 % shorter or longer, so that
    /// what was loaded together is not reloaded together.
    pub fresh: Duration,
    /// How long an absence is used without asking again.
    pub absent: Duration,
    /// How long one load may take, whoever waits for it.
    pub load: Duration,
}

/// A memory in front of a store. Cheap to clone; clones share everything.
#[derive(Debug)]
pub struct Cached<S>(Arc<Inner<S>>);

#[derive(Debug)]
struct Inner<S> {
    store: S,
    clock: SharedClock,
    config: CacheConfig,
    keys: Cache<KeyHash, Entry>,
    absences: Cache<KeyHash, Entry>,
    flights: Mutex<HashMap<KeyHash, Flight>>,
    /// Raised by every [`Forget::forget`]. A load that began under a lower one may have read what was since changed:
    /// its answer goes to those who asked before, and nowhere else. Who writes entries holds it for reading, so that
    /// none can slip in between the raise and the removal.
    epoch: RwLock<u64>,
    revision: AtomicI64,
}

#[derive(Clone, Debug)]
struct Entry {
    record: Option<Arc<KeyRecord>>,
    /// By the monotonic clock, from before the read.
    loaded_at: Duration,
    lifetime: Duration,
    revision: Revision,
}

impl<S> Clone for Cached<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Store> Cached<S> {
    /// Remembers what `store` says.
    pub fn new(store: S, config: CacheConfig, clock: SharedClock) -> Self {
        let pool = |capacity, lifetime: Duration| {
            // The outer bound: entries decide by the injected clock well before.
            Cache::builder()
                .max_capacity(capacity)
                .time_to_live(lifetime * 2)
                .support_invalidation_closures()
                .build()
        };
        Self(Arc::new(Inner {
            keys: pool(config.keys, config.fresh),
            absences: pool(config.absences, config.absent),
            store,
            clock,
            config,
            flights: Mutex::default(),
            epoch: RwLock::new(0),
            revision: AtomicI64::new(0),
        }))
    }

    /// The highest change-log position seen so far.
    pub fn revision(&self) -> Revision {
        Revision(self.0.revision.load(Ordering::Relaxed))
    }
}

impl<S> Inner<S> {
    fn recall(&self, hash: &KeyHash) -> Option<Knowledge> {
        let now = self.clock.monotonic();
        if let Some(entry) = self.keys.get(hash) {
            return entry.knowledge(now, Source::Fresh);
        }
        self.absences.get(hash)?.knowledge(now, Source::Negative)
    }

    fn epoch(&self) -> RwLockReadGuard<'_, u64> {
        self.epoch.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<KeyHash, Flight>> {
        // Every change to the map is one call that cannot be left half-done.
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, hash: KeyHash, entry: Entry) {
        if entry.record.is_some() {
            self.absences.invalidate(&hash);
            self.keys.insert(hash, entry);
        } else {
            self.keys.invalidate(&hash);
            self.absences.insert(hash, entry);
        }
    }
}

impl Entry {
    fn knowledge(&self, now: Duration, source: Source) -> Option<Knowledge> {
        let age = now.saturating_sub(self.loaded_at);
        let left = self.lifetime.checked_sub(age).filter(|left| !left.is_zero())?;
        let provenance = Provenance { source, age, revision: self.revision, cacheable_for: left };
        Some(Knowledge { record: self.record.clone(), provenance })
    }
}

impl<S: Store> Inner<S> {
    /// Reads up to [`MAX_LOOKUP`] keys, and remembers them unless something was forgotten meanwhile.
    async fn load(&self, hashes: &[KeyHash], epoch: u64) -> Result<Vec<Knowledge>, StoreError> {
        let loaded_at = self.clock.monotonic();
        let call = Call::within(Lane::Validation, self.config.load);
        let lookup = self.store.lookup_keys(call, hashes).await?;
        if lookup.records.len() != hashes.len() {
            return Err(StoreError::new(FailureKind::Broken, "a lookup gave too few records"));
        }
        self.revision.fetch_max(lookup.revision.0, Ordering::Relaxed);
        let age = self.clock.monotonic().saturating_sub(loaded_at);
        let entries: Vec<_> = hashes
            .iter()
            .zip(lookup.records)
            .map(|(hash, record)| {
                let lifetime = match record {
                    Some(_) => jittered(self.config.fresh, hash),
                    None => self.config.absent,
                };
                Entry { record: record.map(Arc::new), loaded_at, lifetime, revision: lookup.revision }
            })
            .collect();
        let now = self.epoch();
        if *now == epoch {
            for (hash, entry) in hashes.iter().zip(&entries) {
                self.remember(*hash, entry.clone());
            }
        }
        drop(now);
        let known = |entry: Entry| Knowledge {
            provenance: Provenance {
                source: Source::Database,
                age,
                revision: entry.revision,
                cacheable_for: entry.lifetime.saturating_sub(age),
            },
            record: entry.record,
        };
        Ok(entries.into_iter().map(known).collect())
    }
}

/// Up to 20 % shorter or longer, by the key's own hash: spread out, and the same on every run.
fn jittered(lifetime: Duration, hash: &KeyHash) -> Duration {
    let [.., drawn] = *hash.as_bytes();
    lifetime.mul_f64(0.8 + 0.4 * f64::from(drawn) / 255.0)
}

impl<S: Store> KeySource for Cached<S> {
    fn recall(&self, hash: &KeyHash) -> Option<Knowledge> {
        self.0.recall(hash)
    }

    async fn fetch(&self, hashes: &[KeyHash], deadline: Instant) -> Vec<Result<Knowledge, StoreError>> {
        let waits = self.join(hashes);
        let mut outcomes = Vec::with_capacity(hashes.len());
        for (hash, wait) in hashes.iter().zip(waits) {
            outcomes.push(match wait {
                Wait::Known(knowledge) => Ok(knowledge),
                Wait::For(flight) => flight.land(hash, deadline).await,
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
    fn join(&self, hashes: &[KeyHash]) -> Vec<Wait> {
        let epoch = *self.0.epoch();
        let mut flights = self.0.flights();
        let mut missing: Vec<KeyHash> = Vec::new();
        let waits: Vec<Option<Wait>> = hashes
            .iter()
            .map(|hash| {
                if let Some(flight) = flights.get(hash).filter(|flight| flight.epoch == epoch) {
                    return Some(Wait::For(flight.clone()));
                }
                // A load may have ended between the look into memory and this one.
                let knowledge = self.0.recall(hash);
                if knowledge.is_none() {
                    missing.push(*hash);
                }
                knowledge.map(Wait::Known)
            })
            .collect();
        missing.sort_unstable();
        missing.dedup();
        for together in missing.chunks(MAX_LOOKUP) {
            let flight = self.depart(together.into(), epoch);
            flights.extend(together.iter().map(|hash| (*hash, flight.clone())));
        }
        let departed = |hash| Wait::For(flights[hash].clone());
        hashes.iter().zip(waits).map(|(hash, wait)| wait.unwrap_or_else(|| departed(hash))).collect()
    }

    /// Starts a load in a task of its own: a caller that gives up must not end it for the others.
    fn depart(&self, hashes: Arc<[KeyHash]>, epoch: u64) -> Flight {
        let inner = Arc::clone(&self.0);
        Flight::depart(epoch, Arc::clone(&hashes), async move {
            let _landed = Landed { inner: &inner, hashes: &hashes, epoch };
            inner.load(&hashes, epoch).await
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

impl<S: Store> Forget for Cached<S> {
    fn forget(&self, changed: Changed<'_>) {
        let mut epoch = self.0.epoch.write().unwrap_or_else(PoisonError::into_inner);
        *epoch += 1;
        match changed {
            Changed::Added(hashes) => {
                for hash in hashes {
                    self.0.absences.invalidate(hash);
                }
            }
            Changed::Key(id) => {
                self.forget_if(|record| record.key_id == *id);
            }
            Changed::Tenant(id) => {
                self.forget_if(|record| record.tenant_id == *id);
            }
        }
    }
}

impl<S: Store> Cached<S> {
    /// Walks all entries: changes are rare, and a second index would cost every load.
    fn forget_if(&self, concerns: impl Fn(&KeyRecord) -> bool) {
        for (hash, entry) in &self.0.keys {
            if entry.record.as_deref().is_some_and(&concerns) {
                self.0.keys.invalidate(&*hash);
            }
        }
    }
}
