//! Loads under way: who waits for which, and when one is begun.

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
        guess_limiter::{GuessOrigin, GuessPermit, LoadContext, too_many_guesses_error},
        known_database::lagging_error,
        record_source::CachedRecord,
        store::{FailureKind, MAX_IDS_PER_LOOKUP, StoreError},
    },
    instruments::spans::TraceContext,
};

/// How long a load is repeated whose answer was older than what is known.
const LAG_RETRY_TIMEOUT: Duration = Duration::from_millis(500);
/// The wait before that.
const LAG_RETRY_DELAY: Duration = Duration::from_millis(50);

pub(super) enum JoinOutcome<L: Lookup> {
    Cached(CachedRecord<L::Record>),
    InFlight(InFlightLoad<L::Id, L::Record>),
    /// It is one guess too many.
    Refused,
}

impl<L: Lookup> RecordCache<L> {
    /// Waits for an answer that reflects everything heard of before it was `asked` for.
    pub(super) async fn wait_for_answer(
        &self,
        id: &L::Id,
        mut wait: JoinOutcome<L>,
        asked: Epoch,
        ask: &LoadContext,
    ) -> Result<CachedRecord<L::Record>, StoreError> {
        // A copy that lags may have caught up in a moment, or another one may answer.
        let deadline = ask.deadline;
        let patience = deadline.min(Instant::now() + LAG_RETRY_TIMEOUT);
        loop {
            let flight = match wait {
                JoinOutcome::Cached(knowledge) => return Ok(knowledge),
                JoinOutcome::InFlight(flight) => flight,
                JoinOutcome::Refused => return Err(too_many_guesses_error()),
            };
            let (outcome, overtaken) = match flight.wait(id, deadline).await {
                Ok(Ok(settled)) if settled.is_lagging => (Err(lagging_error()), None),
                Ok(Ok(settled)) => (Ok(settled.cached), settled.superseded_at),
                Ok(Err(not_read)) => (Err(not_read.reason.into()), not_read.superseded_at),
                Err(error) => (Err(error), None),
            };
            let lags = outcome.as_ref().is_err_and(|error| error.kind == FailureKind::Lagging);
            if lags && !self.0.known.is_unusable() && Instant::now() + LAG_RETRY_DELAY < patience {
                tokio::time::sleep(LAG_RETRY_DELAY).await;
            } else if overtaken.is_none_or(|overtaken| asked < overtaken) {
                return outcome;
            }
            // Or it joined a load that had begun before a change which was heard of before it asked.
            wait = match self.join_or_start(std::slice::from_ref(id), false, &ask.origin).pop() {
                Some(again) => again,
                None => return Err(StoreError::new(FailureKind::Internal, "a load did not depart")),
            };
        }
    }

    /// Finds for each id the load under way, or starts one; ids that nobody has asked for yet share theirs.
    /// `anyway`: even if memory has an answer. What nobody has seen is a guess of its asker's; too many are refused.
    pub(super) fn join_or_start(
        &self,
        ids: &[L::Id],
        anyway: bool,
        asker: &GuessOrigin,
    ) -> Vec<JoinOutcome<L>> {
        let mut flights = self.0.lock_in_flight();
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        let waits: Vec<Option<JoinOutcome<L>>> = ids
            .iter()
            .map(|id| {
                if let Some(flight) = flights.get(id) {
                    return Some(JoinOutcome::InFlight(flight.clone()));
                }
                // A load may have ended between the look into memory and this one.
                match self.0.get(id) {
                    PoolLookup::Hit(knowledge) if !anyway => return Some(JoinOutcome::Cached(knowledge)),
                    PoolLookup::Hit(_) | PoolLookup::HitNeedsReload(_) | PoolLookup::Miss => {}
                }
                let lane = if self.0.pool.contains(id) { &mut known } else { &mut unknown };
                lane.push(id.clone());
                None
            })
            .collect();
        for (is_known, mut missing) in [(true, known), (false, unknown)] {
            missing.sort_unstable();
            missing.dedup();
            for together in missing.chunks(MAX_IDS_PER_LOOKUP) {
                let asker = if is_known { &GuessOrigin::INTERNAL } else { asker };
                let permit = self.0.guess_limiter.reserve(asker, together.len());
                let (together, _) = together.split_at(permit.granted());
                if together.is_empty() {
                    break;
                }
                let flight = self.start_load(is_known, together.into(), permit);
                flights.extend(together.iter().map(|id| (id.clone(), flight.clone())));
            }
        }
        let departed =
            |id| flights.get(id).map_or(JoinOutcome::Refused, |flight| JoinOutcome::InFlight(flight.clone()));
        ids.iter().zip(waits).map(|(id, wait)| wait.unwrap_or_else(|| departed(id))).collect()
    }

    /// Starts a load in a task of its own: a caller that gives up must not end it for the others.
    fn start_load(
        &self,
        known: bool,
        ids: Arc<[L::Id]>,
        mut permit: GuessPermit,
    ) -> InFlightLoad<L::Id, L::Record> {
        let inner = Arc::clone(&self.0);
        // On behalf of the one who asked first; the others wait for a span that is not theirs.
        let load = TraceContext::current().run({
            let ids = Arc::clone(&ids);
            async move {
                let _landed = LoadGuard { inner: &inner, ids: &ids };
                let outcomes = inner.load(known, &ids).await;
                let is_absent = |outcome: &LoadOutcome<L::Record>| {
                    outcome.as_ref().is_ok_and(|settled| settled.cached.record.is_none())
                };
                permit.record_misses(outcomes.iter().flatten().filter(|outcome| is_absent(outcome)).count());
                outcomes
            }
        });
        InFlightLoad::start(ids, load)
    }
}

/// Takes a load off the list when it ends, however it ends.
struct LoadGuard<'a, L: Lookup> {
    inner: &'a CacheInner<L>,
    ids: &'a [L::Id],
}

impl<L: Lookup> Drop for LoadGuard<'_, L> {
    fn drop(&mut self) {
        let mut flights = self.inner.lock_in_flight();
        for id in self.ids {
            flights.remove(id);
            self.inner.pool.release_reload(id);
        }
    }
}
