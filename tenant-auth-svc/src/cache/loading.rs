//! Loads under way: who waits for which, and when one is begun.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Cached, Inner,
    fence::Epoch,
    flight::{Flight, Outcome},
    pool::Recalled,
};
use crate::{
    cache::source::Lookup,
    domain::{
        guesses::{Asker, GuessPermit, OnBehalf, too_many},
        knowledge::Knowledge,
        known::lagging,
        store::{FailureKind, MAX_LOOKUP, StoreError},
    },
    instruments::spans::Within,
};

/// How long a load is repeated whose answer was older than what is known.
const LAG_PATIENCE: Duration = Duration::from_millis(500);
/// The wait before that.
const LAG_PAUSE: Duration = Duration::from_millis(50);

pub(super) enum Wait<L: Lookup> {
    Known(Knowledge<L::Record>),
    For(Flight<L::Id, L::Record>),
    /// It is one guess too many.
    Refused,
}

impl<L: Lookup> Cached<L> {
    /// Waits for an answer that reflects everything heard of before it was `asked` for.
    pub(super) async fn await_answer(
        &self,
        id: &L::Id,
        mut wait: Wait<L>,
        asked: Epoch,
        ask: &OnBehalf,
    ) -> Result<Knowledge<L::Record>, StoreError> {
        // A copy that lags may have caught up in a moment, or another one may answer.
        let deadline = ask.deadline;
        let patience = deadline.min(Instant::now() + LAG_PATIENCE);
        loop {
            let flight = match wait {
                Wait::Known(knowledge) => return Ok(knowledge),
                Wait::For(flight) => flight,
                Wait::Refused => return Err(too_many()),
            };
            let (outcome, overtaken) = match flight.land(id, deadline).await {
                Ok(Ok(settled)) if settled.lags => (Err(lagging()), None),
                Ok(Ok(settled)) => (Ok(settled.knowledge), settled.overtaken),
                Ok(Err(not_read)) => (Err(not_read.reason.into()), not_read.overtaken),
                Err(error) => (Err(error), None),
            };
            let lags = outcome.as_ref().is_err_and(|error| error.kind == FailureKind::Lagging);
            if lags && !self.0.known.is_out_of_reach() && Instant::now() + LAG_PAUSE < patience {
                tokio::time::sleep(LAG_PAUSE).await;
            } else if overtaken.is_none_or(|overtaken| asked < overtaken) {
                return outcome;
            }
            // Or it joined a load that had begun before a change which was heard of before it asked.
            wait = match self.join(std::slice::from_ref(id), false, &ask.asker).pop() {
                Some(again) => again,
                None => return Err(StoreError::new(FailureKind::Broken, "a load did not depart")),
            };
        }
    }

    /// Finds for each id the load under way, or starts one; ids that nobody has asked for yet share theirs.
    /// `anyway`: even if memory has an answer. What nobody has seen is a guess of its asker's; too many are refused.
    pub(super) fn join(&self, ids: &[L::Id], anyway: bool, asker: &Asker) -> Vec<Wait<L>> {
        let mut flights = self.0.flights();
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        let waits: Vec<Option<Wait<L>>> = ids
            .iter()
            .map(|id| {
                if let Some(flight) = flights.get(id) {
                    return Some(Wait::For(flight.clone()));
                }
                // A load may have ended between the look into memory and this one.
                match self.0.recall(id) {
                    Recalled::Known(knowledge) if !anyway => return Some(Wait::Known(knowledge)),
                    Recalled::Known(_) | Recalled::Due(_) | Recalled::Nothing => {}
                }
                let lane = if self.0.pool.is_known(id) { &mut known } else { &mut unknown };
                lane.push(id.clone());
                None
            })
            .collect();
        for (is_known, mut missing) in [(true, known), (false, unknown)] {
            missing.sort_unstable();
            missing.dedup();
            for together in missing.chunks(MAX_LOOKUP) {
                let asker = if is_known { &Asker::OURSELVES } else { asker };
                let permit = self.0.guesses.reserve(asker, together.len());
                let (together, _) = together.split_at(permit.granted());
                if together.is_empty() {
                    break;
                }
                let flight = self.depart(is_known, together.into(), permit);
                flights.extend(together.iter().map(|id| (id.clone(), flight.clone())));
            }
        }
        let departed = |id| flights.get(id).map_or(Wait::Refused, |flight| Wait::For(flight.clone()));
        ids.iter().zip(waits).map(|(id, wait)| wait.unwrap_or_else(|| departed(id))).collect()
    }

    /// Starts a load in a task of its own: a caller that gives up must not end it for the others.
    fn depart(&self, known: bool, ids: Arc<[L::Id]>, mut permit: GuessPermit) -> Flight<L::Id, L::Record> {
        let inner = Arc::clone(&self.0);
        // On behalf of the one who asked first; the others wait for a span that is not theirs.
        let load = Within::current().run({
            let ids = Arc::clone(&ids);
            async move {
                let _landed = Landed { inner: &inner, ids: &ids };
                let outcomes = inner.load(known, &ids).await;
                let is_absent = |outcome: &Outcome<L::Record>| {
                    outcome.as_ref().is_ok_and(|settled| settled.knowledge.record.is_none())
                };
                permit.were_wrong(outcomes.iter().flatten().filter(|outcome| is_absent(outcome)).count());
                outcomes
            }
        });
        Flight::depart(ids, load)
    }
}

/// Takes a load off the list when it ends, however it ends.
struct Landed<'a, L: Lookup> {
    inner: &'a Inner<L>,
    ids: &'a [L::Id],
}

impl<L: Lookup> Drop for Landed<'_, L> {
    fn drop(&mut self) {
        let mut flights = self.inner.flights();
        for id in self.ids {
            flights.remove(id);
            self.inner.pool.release_reload(id);
        }
    }
}
