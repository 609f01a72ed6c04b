//! What is remembered of a key.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::domain::{
    key::KeyRecord,
    validate::Knowledge,
    verdict::{Provenance, Revision, Source},
};

/// A key, or its absence, as of one read.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) record: Option<Arc<KeyRecord>>,
    /// By the monotonic clock, from before the read.
    pub(super) loaded_at: Duration,
    /// This entry's own fresh time.
    pub(super) fresh: Duration,
    /// The memory's epoch when the load began.
    pub(super) epoch: u64,
    pub(super) revision: Revision,
    /// Whether somebody sees to its reload already.
    reloading: AtomicBool,
}

impl Entry {
    pub(super) fn new(
        record: Option<KeyRecord>,
        revision: Revision,
        loaded_at: Duration,
        fresh: Duration,
        epoch: u64,
    ) -> Self {
        let reloading = AtomicBool::new(false);
        Self { record: record.map(Arc::new), loaded_at, fresh, epoch, revision, reloading }
    }

    pub(super) fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.loaded_at)
    }

    /// As an answer. Only what is fresh may be reused by callers: the rest is good for this answer alone.
    pub(super) fn knowledge(&self, now: Duration, source: Source) -> Knowledge {
        let age = self.age(now);
        let cacheable_for = match source {
            Source::Database | Source::Fresh | Source::Negative => self.fresh.saturating_sub(age),
            Source::None | Source::Refreshing | Source::Stale => Duration::ZERO,
        };
        let provenance = Provenance { source, age, revision: self.revision, cacheable_for };
        Knowledge { record: self.record.clone(), provenance }
    }

    /// Whether the caller is the one to see to the reload.
    pub(super) fn claim_reload(&self) -> bool {
        !self.reloading.swap(true, Ordering::Relaxed)
    }

    pub(super) fn release_reload(&self) {
        self.reloading.store(false, Ordering::Relaxed);
    }
}
