//! What is remembered of one id.

use std::{sync::Arc, time::Duration};

use super::{
    fence::Epoch,
    sync::{AtomicBool, Ordering},
};
use crate::domain::{
    knowledge::Knowledge,
    reuse::Reuse,
    verdict::{Provenance, Revision, Source},
};

/// A record, or its absence, as of one read.
#[derive(Debug)]
pub(super) struct Entry<R> {
    pub(super) record: Option<Arc<R>>,
    /// By the monotonic clock, from before the read.
    pub(super) loaded_at: Duration,
    /// This entry's own fresh time.
    pub(super) fresh: Duration,
    /// The epoch under which the load began.
    pub(super) began: Epoch,
    pub(super) revision: Revision,
    /// Whether more has been heard since than the record says: it is then only a stopgap.
    pub(super) outdated: bool,
    /// Whether somebody sees to its reload already.
    reloading: AtomicBool,
}

impl<R> Entry<R> {
    pub(super) fn new(
        record: Option<R>,
        revision: Revision,
        loaded_at: Duration,
        fresh: Duration,
        began: Epoch,
    ) -> Self {
        let reloading = AtomicBool::new(false);
        Self { record: record.map(Arc::new), loaded_at, fresh, began, revision, outdated: false, reloading }
    }

    /// The same read with another record, after which more was heard.
    pub(super) fn outdated_by(&self, record: R) -> Self {
        let reloading = AtomicBool::new(false);
        Self { record: Some(Arc::new(record)), outdated: true, reloading, ..*self }
    }

    pub(super) fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.loaded_at)
    }

    /// As an answer. Only what is fresh may be reused by callers: the rest is good for this answer alone.
    ///
    /// `watched` is how long one may be that names what could change it; an absence names nothing.
    pub(super) fn knowledge(&self, now: Duration, source: Source, watched: Duration) -> Knowledge<R> {
        let age = self.age(now);
        let reuse = match (source, &self.record) {
            (Source::Database | Source::Fresh, Some(_)) if !self.outdated => {
                Reuse::announced(self.fresh.saturating_sub(age), watched)
            }
            (Source::Database | Source::Negative, None) if !self.outdated => {
                Reuse::unannounced(self.fresh.saturating_sub(age))
            }
            _ => Reuse::NONE,
        };
        let provenance = Provenance { source, age, revision: self.revision, reuse };
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
