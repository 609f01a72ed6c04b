//! Recent writes of this replica. They are newer than the results of a lagging read replica.

use std::{hash::Hash, sync::Arc, time::Duration};

use moka::sync::Cache;

use super::{MAX_RECENT_WRITES, loaded::LoadedRecord, weight};
use crate::domain::{change::CacheableRecord, verdict::Revision};

/// How long a write is retained. A read replica that lags for longer counts as stalled.
const WRITE_RETENTION: Duration = Duration::from_secs(60);

/// The change-log position of a write, and the record after it if the write returned it.
type RecentWrite<R> = (Revision, Option<LoadedRecord<R>>);

/// Recent writes, by id.
pub(super) struct RecentWrites<I, R>(Cache<I, Arc<RecentWrite<R>>>);

impl<I, R> RecentWrites<I, R>
where
    I: Clone + Eq + Hash + Send + Sync + 'static,
    R: CacheableRecord<Id = I>,
{
    pub(super) fn new() -> Self {
        let weight = |id: &I, write: &Arc<RecentWrite<R>>| {
            let record = write.1.as_ref().and_then(|loaded| loaded.record.as_ref());
            record.map_or(1, |record| weight::weight_of::<I, R>(R::id_heap_bytes(id), record).into())
        };
        Self(
            Cache::builder()
                .max_capacity(MAX_RECENT_WRITES)
                .weigher(weight)
                .time_to_live(WRITE_RETENTION)
                .build(),
        )
    }

    pub(super) fn record(&self, id: &I, revision: Revision, loaded: Option<LoadedRecord<R>>) {
        self.0.insert(id.clone(), Arc::new((revision, loaded)));
    }

    /// Returns the write for an id if it is newer than a position of the log. Its record stands for a read only if it was
    /// written at `fresh_since` or later, on the monotonic clock.
    pub(super) fn written_after(
        &self,
        id: &I,
        revision: Revision,
        fresh_since: Duration,
    ) -> Option<Option<LoadedRecord<R>>> {
        let written = self.0.get(id)?;
        let (at, loaded) = &*written;
        (*at > revision).then(|| loaded.clone().filter(|loaded| loaded.loaded_at >= fresh_since))
    }

    pub(super) fn clear(&self) {
        self.0.invalidate_all();
    }
}
