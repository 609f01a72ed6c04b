//! A load in flight, shared by all callers that wait for it.

use std::{sync::Arc, time::Instant};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};

use super::{fence::Epoch, loaded::AppliedLoad};
use crate::domain::store::{FailureKind, StoreError, UnknownReason};

/// The outcome for each id of a load, in order, or the error of the whole load.
pub(super) type LoadOutcomes<R> = Result<Vec<LoadOutcome<R>>, StoreError>;

/// The outcome for one id.
pub(super) type LoadOutcome<R> = Result<AppliedLoad<R>, UnreadableOutcome>;

/// The database responded, but the state of this id is unknown.
#[derive(Clone, Debug)]
pub(super) struct UnreadableOutcome {
    pub(super) reason: UnknownReason,
    /// A caller that asked under this epoch or a higher one has to load again.
    pub(super) superseded_at: Option<Epoch>,
}

/// A load of some ids, running in its own task. Clones wait for the same load.
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

impl<I: PartialEq, R: Clone + Send + Sync + 'static> InFlightLoad<I, R> {
    /// Starts `load`, which returns the outcome for each of `ids`, in order.
    pub(super) fn start(ids: Arc<[I]>, load: impl Future<Output = LoadOutcomes<R>> + Send + 'static) -> Self {
        let task = tokio::spawn(load);
        let outcome = async move {
            Arc::new(task.await.unwrap_or_else(|_| {
                Err(StoreError::new(FailureKind::Internal, "the load ended without an outcome"))
            }))
        };
        Self { ids, outcome: outcome.boxed().shared() }
    }

    /// Waits for the outcome of one id.
    pub(super) async fn wait(self, id: &I, deadline: Instant) -> Result<LoadOutcome<R>, StoreError> {
        let waited = tokio::time::timeout_at(deadline.into(), self.outcome).await;
        let Ok(outcome) = waited else {
            return Err(StoreError::new(
                FailureKind::TimedOut,
                "the caller's deadline passed before the database responded",
            ));
        };
        let outcomes = outcome.as_ref().as_ref().map_err(Clone::clone)?;
        let index = self.ids.iter().position(|loaded| loaded == id);
        index
            .and_then(|index| outcomes.get(index))
            .cloned()
            .ok_or_else(|| StoreError::new(FailureKind::Internal, "the load was for other ids"))
    }
}
