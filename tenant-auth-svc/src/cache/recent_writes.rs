//! What this replica has written lately: it knows better then than a copy of the database that lags.

use std::{hash::Hash, sync::Arc, time::Duration};

use moka::sync::Cache;

use super::{MAX_RECENT_WRITES, pool::LoadedRecord, weight};
use crate::domain::{change::CacheableRecord, verdict::Revision};

/// For how long it is kept: a copy that lags for longer counts as standing still.
const WRITE_RETENTION: Duration = Duration::from_secs(60);

/// Where the log ended with a write, and what was there then, if that was read along.
type RecentWrite<R> = (Revision, Option<LoadedRecord<R>>);

/// Writes by id.
pub(super) struct RecentWrites<I, R>(Cache<I, Arc<RecentWrite<R>>>);

impl<I, R> RecentWrites<I, R>
where
    I: Clone + Eq + Hash + Send + Sync + 'static,
    R: CacheableRecord,
{
    pub(super) fn new() -> Self {
        let places = |_: &I, write: &Arc<RecentWrite<R>>| {
            weight::weight_of_u32(write.1.as_ref().and_then(|loaded| loaded.record.as_ref()))
        };
        Self(
            Cache::builder()
                .max_capacity(MAX_RECENT_WRITES)
                .weigher(places)
                .time_to_live(WRITE_RETENTION)
                .build(),
        )
    }

    pub(super) fn record(&self, id: &I, revision: Revision, loaded: Option<LoadedRecord<R>>) {
        self.0.insert(id.clone(), Arc::new((revision, loaded)));
    }

    /// What was written after a position of the log.
    pub(super) fn written_after(&self, id: &I, revision: Revision) -> Option<Option<LoadedRecord<R>>> {
        let written = self.0.get(id)?;
        let (at, loaded) = &*written;
        (*at > revision).then(|| loaded.clone())
    }

    pub(super) fn clear(&self) {
        self.0.invalidate_all();
    }
}
