//! Which keys are in use, to the hour, without a write per validation.
//!
//! A key in use is read from the database now and then, and each read tells when its last use was written down. Only
//! when that is over an hour ago is there something to write: at most one row per key and hour, whatever the traffic
//! and however many replicas.

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

/// How coarse a last use is.
pub const LAST_USED_GRANULARITY: Duration = Duration::from_secs(60 * 60);
/// The most uses kept until they are written; the rest is noticed at its next read.
const MAX_PENDING_KEYS: usize = 100_000;

/// Uses that are not written yet.
#[derive(Debug)]
pub struct LastUsedTracker {
    clock: SharedClock,
    pending: Mutex<HashMap<KeyId, UnixMillis>>,
}

impl LastUsedTracker {
    /// None yet.
    #[must_use]
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, pending: Mutex::default() }
    }

    /// Notes that a key was read because somebody presented it. Only keys that could be honoured count.
    pub fn record_use(&self, key: &KeyRecord) {
        let now = self.clock.now();
        let ended = key.revoked_at.is_some()
            || key.expires_at.is_some_and(|end| end <= now)
            || key.tenant_status == TenantStatus::Suspended;
        let written_recently = key.last_used_at.is_some_and(|last| last.plus(LAST_USED_GRANULARITY) > now);
        if ended || written_recently {
            return;
        }
        let mut pending = self.pending();
        if pending.len() < MAX_PENDING_KEYS {
            pending.insert(key.key_id.clone(), now);
        }
    }

    /// Writes what was noted, in batches. What cannot be written stays noted.
    ///
    /// # Errors
    /// When the database gives no complete answer. A use written twice is written once.
    pub async fn flush<S: Store>(&self, store: &S, call: impl Fn() -> Call) -> Result<(), StoreError> {
        let noted: Vec<_> = self.pending().iter().map(|(id, at)| (id.clone(), *at)).collect();
        for batch in noted.chunks(MAX_USES_PER_WRITE) {
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
        // After a start all keys are noted at once, and hardly ever again as many.
        self.pending().shrink_to_fit();
        Ok(())
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, HashMap<KeyId, UnixMillis>> {
        // Every change to the map is one call that cannot be left half-done.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
