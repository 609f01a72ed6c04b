//! A load under way, and everybody who waits for it.

use std::{sync::Arc, time::Instant};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};

use super::{fence::Epoch, pool::AppliedLoad};
use crate::domain::store::{FailureKind, StoreError, UnknownReason};

/// What became of each id of a load, in order; or that nothing is known about any.
pub(super) type LoadOutcomes<R> = Result<Vec<LoadOutcome<R>>, StoreError>;

/// What became of one id.
pub(super) type LoadOutcome<R> = Result<AppliedLoad<R>, UnreadableOutcome>;

/// The database answered, and nothing is known of the one id all the same.
#[derive(Clone, Debug)]
pub(super) struct UnreadableOutcome {
    pub(super) reason: UnknownReason,
    /// Whoever asked under this epoch or a higher one has to ask again.
    pub(super) superseded_at: Option<Epoch>,
}

/// A load of some ids, running in a task of its own. Clones wait for the same one.
#[derive(Debug)]
pub(super) struct InFlightLoad<I, R> {
    ids: Arc<[I]>,
    outcome: Shared<BoxFuture<'static, Arc<LoadOutcomes<R>>>>,
}

impl<I, R> Clone for InFlightLoad<I, R> {
    fn clone(&self) -> Self {
        Self { ids: Arc::clone(&self.ids), outcome: self.outcome.clone() }
    }
}

impl<I: PartialEq, R: Send + Sync + 'static> InFlightLoad<I, R> {
    /// Starts `load`, which gives what became of each of `ids`, in order.
    pub(super) fn start(ids: Arc<[I]>, load: impl Future<Output = LoadOutcomes<R>> + Send + 'static) -> Self {
        let task = tokio::spawn(load);
        let outcome = async move {
            Arc::new(task.await.unwrap_or_else(|_| {
                Err(StoreError::new(FailureKind::Internal, "the load ended without an outcome"))
            }))
        };
        Self { ids, outcome: outcome.boxed().shared() }
    }

    /// Waits for what became of one id.
    pub(super) async fn wait(self, id: &I, deadline: Instant) -> Result<LoadOutcome<R>, StoreError> {
        let waited = tokio::time::timeout_at(deadline.into(), self.outcome).await;
        let Ok(outcome) = waited else {
            return Err(StoreError::new(
                FailureKind::TimedOut,
                "the caller's deadline came before the database's answer",
            ));
        };
        let settled = outcome.as_ref().as_ref().map_err(Clone::clone)?;
        let position = self.ids.iter().position(|loaded| loaded == id);
        position
            .and_then(|position| settled.get(position))
            .cloned()
            .ok_or_else(|| StoreError::new(FailureKind::Internal, "the load was for other ids"))
    }
}
