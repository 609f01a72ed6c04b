//! What had to go for want of room.

use std::sync::Arc;

use moka::notification::RemovalCause;
use quick_cache::Lifecycle;

use crate::measure::counts::Counter;

/// How many records and absences had to go for want of room. Clones share the counts.
#[derive(Clone, Default)]
pub(super) struct Evicted(Arc<(Counter, Counter)>);

impl Evicted {
    /// Records, and absences.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.0.0.get(), self.0.1.get())
    }

    /// Counts an absence, if that is why it went.
    pub(super) fn absence(&self, cause: RemovalCause) {
        if cause == RemovalCause::Size {
            self.0.1.one();
        }
    }
}

/// Of records: quick_cache removes what is too much, and nothing else.
impl<I, R> Lifecycle<I, R> for Evicted {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _: I, _: R) {
        self.0.0.one();
    }
}
