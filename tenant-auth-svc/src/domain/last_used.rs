//! The last-used times of keys, accurate to the hour, without a write per validation.
//!
//! A key that is used is reloaded from time to time, and each load returns the stored last-used time. Only
//! when that is more than an hour ago, a new time is written: at most one row per key and hour, independent
//! of the traffic and the number of replicas.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::{
    clock::{SharedClock, UnixMillis},
    id::KeyId,
    key::KeyRecord,
    store::{Call, MAX_USES_PER_WRITE, Store, StoreError},
    tenant::TenantStatus,
};

/// Granularity of last-used times.
pub const LAST_USED_GRANULARITY: Duration = Duration::from_secs(60 * 60);
/// Maximum number of pending times. Further uses are recorded at the key's next load.
const MAX_PENDING_KEYS: usize = 100_000;

/// Last-used times that are not written yet.
#[derive(Debug)]
pub struct LastUsedTracker {
    clock: SharedClock,
    pending: Mutex<HashMap<KeyId, UnixMillis>>,
}

impl LastUsedTracker {
    /// Creates an empty tracker.
    #[must_use]
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, pending: Mutex::default() }
    }

    /// Records that a key was loaded for a request. Revoked and expired keys, and keys of suspended tenants,
    /// are not recorded.
    pub fn record_use(&self, key: &KeyRecord) {
        let now = self.clock.now();
        let is_unusable = key.revoked_at.get().is_some()
            || key.expires_at.get().is_some_and(|expires_at| expires_at <= now)
            || key.tenant.status == TenantStatus::Suspended;
        let written_recently =
            key.last_used_at.get().is_some_and(|last| last.plus(LAST_USED_GRANULARITY) > now);
        if is_unusable || written_recently {
            return;
        }
        let mut pending = self.pending();
        if pending.len() < MAX_PENDING_KEYS {
            pending.insert(key.key_id.unpack(), now);
        }
    }

    /// Writes the pending times, in batches. Times that cannot be written stay pending.
    ///
    /// # Errors
    /// When the database returns no complete result. Writing a time twice has no further effect.
    pub async fn flush<S: Store>(&self, store: &S, call: impl Fn() -> Call) -> Result<(), StoreError> {
        let pending_uses: Vec<_> = self.pending().iter().map(|(id, at)| (id.clone(), *at)).collect();
        for batch in pending_uses.chunks(MAX_USES_PER_WRITE) {
            let now = self.clock.now();
            let uses: Vec<_> = batch.iter().map(|(id, at)| (id.clone(), now.since(*at))).collect();
            store.record_last_used(call(), &uses).await?;
            let mut pending = self.pending();
            for (id, at) in batch {
                if pending.get(id) == Some(at) {
                    pending.remove(id);
                }
            }
        }
        // After a start all keys are pending at once, later only few at a time.
        self.pending().shrink_to_fit();
        Ok(())
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, HashMap<KeyId, UnixMillis>> {
        // Every change to the map is a single call, so a panic leaves it consistent.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
