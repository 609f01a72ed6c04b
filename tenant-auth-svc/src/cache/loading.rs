//! Loads in flight: which callers share one, and when a new one starts.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    CacheInner, RecordCache,
    fence::Epoch,
    in_flight::{InFlightLoad, LoadOutcome},
    pool::PoolLookup,
};
use crate::{
    cache::lookup::Lookup,
    domain::{
        known_database::lagging_error,
        record_source::CachedRecord,
        store::{FailureKind, MAX_IDS_PER_LOOKUP, StoreError},
        unknown_lookup_limiter::{
            LoadContext, LookupOrigin, UnknownLookupPermit, too_many_unknown_lookups_error,
        },
    },
    instruments::spans::TraceContext,
};

/// How long a load is retried when its result is older than the known position.
const LAG_RETRY_TIMEOUT: Duration = Duration::from_millis(500);
/// Delay before each such retry.
const LAG_RETRY_DELAY: Duration = Duration::from_millis(50);

pub(super) enum JoinOutcome<L: Lookup> {
    Cached(CachedRecord<L::Record>),
    InFlight(InFlightLoad<L::Id, L::Record>),
    /// The limit of unknown lookups is reached.
    Refused,
}

impl<L: Lookup> RecordCache<L> {
    /// Waits for a result that reflects all changes applied before the epoch `asked`.
    pub(super) async fn wait_for_answer(
        &self,
        id: &L::Id,
        mut wait: JoinOutcome<L>,
        asked: Epoch,
        context: &LoadContext,
    ) -> Result<CachedRecord<L::Record>, StoreError> {
        // A lagging read replica may catch up soon, or another one may respond.
        let deadline = context.deadline;
        let retry_until = deadline.min(Instant::now() + LAG_RETRY_TIMEOUT);
        loop {
            let load = match wait {
                JoinOutcome::Cached(cached) => return Ok(cached),
                JoinOutcome::InFlight(load) => load,
                JoinOutcome::Refused => return Err(too_many_unknown_lookups_error()),
            };
            let (outcome, superseded_at) = match load.wait(id, deadline).await {
                Ok(Ok(applied)) if applied.is_lagging => (Err(lagging_error()), None),
                Ok(Ok(applied)) => (Ok(applied.cached), applied.superseded_at),
                Ok(Err(unread)) => (Err(unread.reason.into()), unread.superseded_at),
                Err(error) => (Err(error), None),
            };
            let is_lagging = outcome.as_ref().is_err_and(|error| error.kind == FailureKind::Lagging);
            if is_lagging && !self.0.known.is_unusable() && Instant::now() + LAG_RETRY_DELAY < retry_until {
                tokio::time::sleep(LAG_RETRY_DELAY).await;
            } else if superseded_at.is_none_or(|superseded_at| asked < superseded_at) {
                return outcome;
            }
            // The load may also have started before a change that was applied before this caller asked; load
            // again.
            wait = match self.join_or_start(std::slice::from_ref(id), false, &context.origin).pop() {
                Some(again) => again,
                None => return Err(StoreError::new(FailureKind::Internal, "a load did not start")),
            };
        }
    }

    /// Returns the load in flight for each id, or starts one; ids without a load share a new one. With
    /// `anyway`, an id is loaded even if it is cached. An id that is not cached counts as an unknown lookup of
    /// `origin`; unknown lookups above the limit are refused.
    pub(super) fn join_or_start(
        &self,
        ids: &[L::Id],
        anyway: bool,
        origin: &LookupOrigin,
    ) -> Vec<JoinOutcome<L>> {
        let mut in_flight = self.0.lock_in_flight();
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        let waits: Vec<Option<JoinOutcome<L>>> = ids
            .iter()
            .map(|id| {
                if let Some(load) = in_flight.get(id) {
                    return Some(JoinOutcome::InFlight(load.clone()));
                }
                // A load may have ended between the caller's cache lookup and this one.
                match self.0.get(id) {
                    PoolLookup::Hit(cached) if !anyway => return Some(JoinOutcome::Cached(cached)),
                    PoolLookup::Hit(_) | PoolLookup::HitNeedsReload(_) | PoolLookup::Miss => {}
                }
                let lane = if self.0.pool.records.contains(id) { &mut known } else { &mut unknown };
                lane.push(id.clone());
                None
            })
            .collect();
        for (is_known, mut missing) in [(true, known), (false, unknown)] {
            missing.sort_unstable();
            missing.dedup();
            for chunk in missing.chunks(MAX_IDS_PER_LOOKUP) {
                let origin = if is_known { &LookupOrigin::INTERNAL } else { origin };
                let permit = self.0.unknown_lookup_limiter.reserve(origin, chunk.len());
                let (chunk, _) = chunk.split_at(permit.granted());
                if chunk.is_empty() {
                    break;
                }
                let load = self.start_load(is_known, chunk.into(), permit);
                in_flight.extend(chunk.iter().map(|id| (id.clone(), load.clone())));
            }
        }
        let load_of =
            |id| in_flight.get(id).map_or(JoinOutcome::Refused, |load| JoinOutcome::InFlight(load.clone()));
        ids.iter().zip(waits).map(|(id, wait)| wait.unwrap_or_else(|| load_of(id))).collect()
    }

    /// Starts a load in its own task, so that a caller that gives up does not cancel it for the others.
    fn start_load(
        &self,
        known: bool,
        ids: Arc<[L::Id]>,
        mut permit: UnknownLookupPermit,
    ) -> InFlightLoad<L::Id, L::Record> {
        let inner = Arc::clone(&self.0);
        // The load runs in the trace context of the first caller; the others have spans of their own.
        let load = TraceContext::current().run({
            let ids = Arc::clone(&ids);
            async move {
                let _guard = LoadGuard { inner: &inner, ids: &ids };
                let outcomes = inner.load(known, &ids).await;
                let is_negative = |outcome: &LoadOutcome<L::Record>| {
                    outcome.as_ref().is_ok_and(|applied| applied.cached.record.is_none())
                };
                permit
                    .record_misses(outcomes.iter().flatten().filter(|outcome| is_negative(outcome)).count());
                outcomes
            }
        });
        InFlightLoad::start(ids, load)
    }
}

/// Removes a load from the map when it ends, also by a panic.
struct LoadGuard<'a, L: Lookup> {
    inner: &'a CacheInner<L>,
    ids: &'a [L::Id],
}

impl<L: Lookup> Drop for LoadGuard<'_, L> {
    fn drop(&mut self) {
        let mut in_flight = self.inner.lock_in_flight();
        for id in self.ids {
            in_flight.remove(id);
            self.inner.pool.release_reload(id);
        }
    }
}
