//! What this replica has written lately: it knows better then than a copy of the database that lags.

use std::{hash::Hash, sync::Arc, time::Duration};

use moka::sync::Cache;

use super::{MAX_WRITTEN, pool::Loaded, weight};
use crate::domain::{change::Record, verdict::Revision};

/// For how long it is kept: a copy that lags for longer counts as standing still.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// Where the log ended with a write, and what was there then, if that was read along.
type Write<R> = (Revision, Option<Loaded<R>>);

/// Writes by id.
pub(super) struct Written<I, R>(Cache<I, Arc<Write<R>>>);

impl<I, R> Written<I, R>
where
    I: Clone + Eq + Hash + Send + Sync + 'static,
    R: Record,
{
    pub(super) fn new() -> Self {
        let places = |_: &I, write: &Arc<Write<R>>| {
            weight::small_of(write.1.as_ref().and_then(|loaded| loaded.record.as_ref()))
        };
        Self(Cache::builder().max_capacity(MAX_WRITTEN).weigher(places).time_to_live(KEPT_FOR).build())
    }

    pub(super) fn note(&self, id: &I, revision: Revision, loaded: Option<Loaded<R>>) {
        self.0.insert(id.clone(), Arc::new((revision, loaded)));
    }

    /// What was written after a position of the log.
    pub(super) fn after(&self, id: &I, revision: Revision) -> Option<Option<Loaded<R>>> {
        let written = self.0.get(id)?;
        let (at, loaded) = &*written;
        (*at > revision).then(|| loaded.clone())
    }

    pub(super) fn clear(&self) {
        self.0.invalidate_all();
    }
}
