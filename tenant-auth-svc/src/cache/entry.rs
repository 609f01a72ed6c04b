//! What is remembered of one id.

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

/// A record, or its absence, as of one read.
#[derive(Debug)]
pub(super) struct CacheEntry<R> {
    pub(super) record: Option<Arc<R>>,
    /// By the monotonic clock, from before the read.
    pub(super) loaded_at: Duration,
    /// This entry's own fresh time.
    pub(super) fresh: Duration,
    /// The epoch under which the load began.
    pub(super) epoch: Epoch,
    pub(super) revision: Revision,
    /// Whether more has been heard since than the record says: it is then only a stopgap.
    pub(super) is_outdated: bool,
    /// Whether somebody sees to its reload already.
    is_reloading: AtomicBool,
}

impl<R> CacheEntry<R> {
    pub(super) fn new(
        record: Option<R>,
        revision: Revision,
        loaded_at: Duration,
        fresh: Duration,
        began: Epoch,
    ) -> Self {
        let reloading = AtomicBool::new(false);
        Self {
            record: record.map(Arc::new),
            loaded_at,
            fresh,
            epoch: began,
            revision,
            is_outdated: false,
            is_reloading: reloading,
        }
    }

    /// The same read with another record, after which more was heard.
    pub(super) fn outdated_by(&self, record: R) -> Self {
        let reloading = AtomicBool::new(false);
        Self { record: Some(Arc::new(record)), is_outdated: true, is_reloading: reloading, ..*self }
    }

    pub(super) fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.loaded_at)
    }

    /// The entry as an answer from this source. Nobody may reuse what is outdated.
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

    /// Whether the caller is the one to see to the reload.
    pub(super) fn claim_reload(&self) -> bool {
        !self.is_reloading.swap(true, Ordering::Relaxed)
    }

    pub(super) fn release_reload(&self) {
        self.is_reloading.store(false, Ordering::Relaxed);
    }
}
