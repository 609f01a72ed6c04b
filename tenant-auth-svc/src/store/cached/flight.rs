//! A load under way, and everybody who waits for it.

use std::{sync::Arc, time::Instant};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};

use crate::domain::{
    key::KeyHash,
    store::{FailureKind, StoreError},
    validate::Knowledge,
};

type Outcome = Arc<Result<Vec<Knowledge>, StoreError>>;

/// A load of some keys, running in a task of its own. Clones wait for the same one.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    /// The memory's epoch when the load began.
    pub(super) epoch: u64,
    hashes: Arc<[KeyHash]>,
    outcome: Shared<BoxFuture<'static, Outcome>>,
}

impl Flight {
    /// Starts `load`, which gives what is known about each of `hashes`, in order.
    pub(super) fn depart(
        epoch: u64,
        hashes: Arc<[KeyHash]>,
        load: impl Future<Output = Result<Vec<Knowledge>, StoreError>> + Send + 'static,
    ) -> Self {
        let task = tokio::spawn(load);
        let outcome = async move {
            Arc::new(task.await.unwrap_or_else(|_| {
                Err(StoreError::new(FailureKind::Broken, "the load ended without an outcome"))
            }))
        };
        Self { epoch, hashes, outcome: outcome.boxed().shared() }
    }

    /// Waits for what is known about one key.
    pub(super) async fn land(self, hash: &KeyHash, deadline: Instant) -> Result<Knowledge, StoreError> {
        let waited = tokio::time::timeout_at(deadline.into(), self.outcome).await;
        let Ok(outcome) = waited else {
            return Err(StoreError::new(
                FailureKind::TimedOut,
                "the caller's deadline came before the database's answer",
            ));
        };
        let knowledge = outcome.as_ref().as_ref().map_err(Clone::clone)?;
        let position = self.hashes.iter().position(|loaded| loaded == hash);
        position
            .and_then(|position| knowledge.get(position))
            .cloned()
            .ok_or_else(|| StoreError::new(FailureKind::Broken, "the load was for other keys"))
    }
}
