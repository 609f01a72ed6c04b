//! Counts of evicted entries.

use std::sync::Arc;

use moka::notification::RemovalCause;
use quick_cache::Lifecycle;

use crate::instruments::counts::Counter;

/// Counts records and negative entries that were evicted because the cache was full. Clones share the counts.
#[derive(Clone, Default)]
pub(super) struct EvictionCounts(Arc<(Counter, Counter)>);

impl EvictionCounts {
    /// Returns the number of evicted records and of evicted negative entries.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.0.0.get(), self.0.1.get())
    }

    /// Counts the records that were evicted for another one. A record that was replaced by a newer version of
    /// itself is not counted. A record that is larger than the whole cache is counted: it is evicted at once.
    pub(super) fn count_records<I: PartialEq, R>(
        &self,
        evicted_entries: &EvictedEntries<I, Arc<R>>,
        id: &I,
        record: &Arc<R>,
    ) {
        for (other, evicted) in evicted_entries {
            if other != id || Arc::ptr_eq(evicted, record) {
                self.0.0.increment();
            }
        }
    }

    /// Counts a negative entry if it was removed because the cache was full.
    pub(super) fn count_negative(&self, cause: RemovalCause) {
        if cause == RemovalCause::Size {
            self.0.1.increment();
        }
    }
}

/// The entries that one insertion removed.
pub(super) type EvictedEntries<I, R> = Vec<(I, R)>;

/// quick_cache reports evicted and replaced records in the same way.
impl<I, R> Lifecycle<I, R> for EvictionCounts {
    type RequestState = EvictedEntries<I, R>;

    fn on_evict(&self, evicted_entries: &mut EvictedEntries<I, R>, id: I, record: R) {
        evicted_entries.push((id, record));
    }
}
