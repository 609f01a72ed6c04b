//! One entry of the cache.

use std::{sync::Arc, time::Duration};

use super::{
    fence::Epoch,
    sync::{AtomicBool, Ordering},
};
use crate::domain::{
    cache_policy::CachePolicy,
    client_reuse::ClientReuse,
    record_source::CachedRecord,
    verdict::{Provenance, Revision, Source},
};

/// The result of one read: a record, or none (a negative entry).
#[derive(Debug)]
pub(super) struct CacheEntry<R> {
    /// The record; `None` in a negative entry.
    pub(super) record: Option<Arc<R>>,
    /// The monotonic time before the read.
    pub(super) loaded_at: Duration,
    /// The fresh time of this entry, jitter included.
    pub(super) fresh: Duration,
    /// The epoch at which the load started.
    pub(super) epoch: Epoch,
    /// The position of the change log at which the record was read.
    pub(super) revision: Revision,
    /// Whether a change was applied that the record does not fully reflect: it then serves only as a
    /// fallback.
    pub(super) is_outdated: bool,
    /// Whether a reload is claimed.
    is_reloading: AtomicBool,
}

impl<R> CacheEntry<R> {
    pub(super) fn new(
        record: Option<R>,
        revision: Revision,
        loaded_at: Duration,
        fresh: Duration,
        epoch: Epoch,
    ) -> Self {
        Self {
            record: record.map(Arc::new),
            loaded_at,
            fresh,
            epoch,
            revision,
            is_outdated: false,
            is_reloading: AtomicBool::new(false),
        }
    }

    /// Returns an entry of the same read with a record that an applied change has altered.
    pub(super) fn outdated_by(&self, record: R) -> Self {
        Self {
            record: Some(Arc::new(record)),
            is_outdated: true,
            is_reloading: AtomicBool::new(false),
            ..*self
        }
    }

    /// Returns the time since the read.
    pub(super) fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.loaded_at)
    }

    /// Returns the entry as an answer from this source. A caller may not reuse an outdated entry.
    pub(super) fn cached_record(
        &self,
        now: Duration,
        source: Source,
        policy: &CachePolicy,
    ) -> CachedRecord<R> {
        let age = self.age(now);
        let reuse = if self.is_outdated {
            ClientReuse::NONE
        } else {
            policy.client_reuse(source, self.record.is_none(), self.fresh.saturating_sub(age))
        };
        let provenance = Provenance { source, age, revision: self.revision, reuse };
        CachedRecord { record: self.record.clone(), provenance }
    }

    /// Claims the reload. Returns `false` if another caller has claimed it.
    pub(super) fn claim_reload(&self) -> bool {
        !self.is_reloading.swap(true, Ordering::Relaxed)
    }

    /// Releases the claim on the reload.
    pub(super) fn release_reload(&self) {
        self.is_reloading.store(false, Ordering::Relaxed);
    }
}
