//! Requests in flight: concurrent requests for the same key or session share one response.

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

/// A request in flight.
pub(crate) struct InFlightRequest {
    /// Number of invalidations before the request was sent.
    change_count: u64,
    outcome: Shared<BoxFuture<'static, Outcome>>,
}

/// At most one request per key or session, which all callers wait for.
#[derive(Default)]
pub(crate) struct InFlightRequests(Mutex<HashMap<Tag, InFlightRequest, TagHasher>>);

impl InFlightRequests {
    /// Joins the request in flight, or sends a new one in its own task, which continues if this caller is
    /// cancelled.
    ///
    /// `change_count` is the number of invalidations so far: a caller does not join a request that was sent
    /// before the last invalidation, because its answer may be older. Returns the outcome to wait for, and
    /// whether another caller sent the request.
    pub(crate) fn join<F>(
        &self,
        tag: Tag,
        change_count: u64,
        request: impl FnOnce() -> F,
    ) -> (Shared<BoxFuture<'static, Outcome>>, bool)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_joinable = |in_flight: &&InFlightRequest| {
            in_flight.change_count >= change_count && in_flight.outcome.peek().is_none()
        };
        if let Some(in_flight) = requests.get(&tag).filter(is_joinable) {
            return (in_flight.outcome.clone(), true);
        }
        let task = tokio::spawn(request());
        let outcome = task
            .map(|outcome| outcome.unwrap_or_else(|_| Err(invalid_reply("the request was cancelled"))))
            .boxed()
            .shared();
        requests.insert(tag, InFlightRequest { change_count, outcome: outcome.clone() });
        (outcome, false)
    }

    /// Removes a finished request, unless a newer one has replaced it.
    pub(crate) fn finish(&self, tag: Tag, change_count: u64) {
        let mut requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.get(&tag).is_some_and(|in_flight| in_flight.change_count == change_count) {
            requests.remove(&tag);
        }
    }
}
