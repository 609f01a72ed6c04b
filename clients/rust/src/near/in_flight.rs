//! Questions under way: whoever asks the same waits for the same answer.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Mutex, PoisonError},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};

use super::tag::{Tag, TagHasher};
use crate::{Error, Validation, call::invalid_reply};

type Outcome = Result<Validation, Error>;

/// An answer under way.
pub(crate) struct InFlightRequest {
    /// How much was told before the question was sent.
    change_count: u64,
    outcome: Shared<BoxFuture<'static, Outcome>>,
}

/// One question for each key or session, whoever waits for it.
#[derive(Default)]
pub(crate) struct InFlightRequests(Mutex<HashMap<Tag, InFlightRequest, TagHasher>>);

impl InFlightRequests {
    /// Joins the question under way, or sends it in a task of its own, which goes on when this caller gives up.
    ///
    /// `news` counts what was told so far: who asks after something was told does not join a question from before,
    /// because its answer may be older. Gives the outcome to wait for, and whether the question is somebody else's.
    pub(crate) fn join<F>(
        &self,
        tag: Tag,
        news: u64,
        ask: impl FnOnce() -> F,
    ) -> (Shared<BoxFuture<'static, Outcome>>, bool)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way =
            |flight: &&InFlightRequest| flight.change_count >= news && flight.outcome.peek().is_none();
        if let Some(flight) = flights.get(&tag).filter(under_way) {
            return (flight.outcome.clone(), true);
        }
        let asking = tokio::spawn(ask());
        let outcome = asking
            .map(|outcome| outcome.unwrap_or_else(|_| Err(invalid_reply("the question was given up"))))
            .boxed()
            .shared();
        flights.insert(tag, InFlightRequest { change_count: news, outcome: outcome.clone() });
        (outcome, false)
    }

    /// Forgets a question that was answered, unless a younger one has taken its place.
    pub(crate) fn finish(&self, tag: Tag, news: u64) {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if flights.get(&tag).is_some_and(|flight| flight.change_count == news) {
            flights.remove(&tag);
        }
    }
}
