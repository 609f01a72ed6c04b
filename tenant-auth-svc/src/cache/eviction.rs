//! What had to go for want of room.

use std::sync::Arc;

use moka::notification::RemovalCause;
use quick_cache::Lifecycle;

use crate::instruments::counts::Counter;

/// How many records and absences had to go for want of room. Clones share the counts.
#[derive(Clone, Default)]
pub(super) struct EvictionCounts(Arc<(Counter, Counter)>);

impl EvictionCounts {
    /// Records, and absences.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.0.0.get(), self.0.1.get())
    }

    /// Counts the records that had to go for another one. What was replaced by a newer read of itself is still there; what is
    /// too large for all of memory went at once.
    pub(super) fn count_records<I: PartialEq, R>(
        &self,
        displaced: &EvictedEntries<I, Arc<R>>,
        id: &I,
        record: &Arc<R>,
    ) {
        for (other, gone) in displaced {
            if other != id || Arc::ptr_eq(gone, record) {
                self.0.0.increment();
            }
        }
    }

    /// Counts an absence, if that is why it went.
    pub(super) fn count_negative(&self, cause: RemovalCause) {
        if cause == RemovalCause::Size {
            self.0.1.increment();
        }
    }
}

/// What left memory by one insertion.
pub(super) type EvictedEntries<I, R> = Vec<(I, R)>;

/// Of records: quick_cache tells of what has to go and of what is replaced in the same way.
impl<I, R> Lifecycle<I, R> for EvictionCounts {
    type RequestState = EvictedEntries<I, R>;

    fn on_evict(&self, displaced: &mut EvictedEntries<I, R>, id: I, record: R) {
        displaced.push((id, record));
    }
}
