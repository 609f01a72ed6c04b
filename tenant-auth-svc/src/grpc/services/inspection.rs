//! Looking into memory for an operator, so that nobody else waits for it.

use std::{sync::Arc, time::Instant};

use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout_at};

use crate::{
    domain::{
        id::KeyId,
        inspect::{KeyInspection, KeyInspector},
    },
    grpc::error::ApiError,
};

/// A look into memory takes as long as memory is large: it runs beside the threads that answer requests, and one at a time, so that
/// many who ask take no more than one core.
#[derive(Debug)]
pub(super) struct InspectionRunner {
    inspector: Arc<KeyInspector>,
    semaphore: Arc<Semaphore>,
}

impl InspectionRunner {
    pub(super) fn new(inspector: KeyInspector) -> Self {
        Self { inspector: Arc::new(inspector), semaphore: Arc::new(Semaphore::new(1)) }
    }

    /// What there is of a key.
    ///
    /// # Errors
    /// [`ApiError::DeadlineReached`] when it is not its turn before the deadline; [`ApiError::Panicked`].
    pub(super) async fn run(&self, key: KeyId, deadline: Instant) -> Result<KeyInspection, ApiError> {
        let turn = timeout_at(deadline.into(), Arc::clone(&self.semaphore).acquire_owned()).await;
        // It is never closed: what is left is that its turn did not come.
        let Ok(Ok(turn)) = turn else { return Err(ApiError::DeadlineReached) };
        let inspector = Arc::clone(&self.inspector);
        // The turn ends with the look, not with the caller that waits for it.
        let look = spawn_blocking(move || {
            let found = inspector.inspect(&key);
            drop(turn);
            found
        });
        look.await.map_err(|_| ApiError::Panicked)
    }
}
