//! Inspects the cache for an operator, without delaying other requests.

use std::{sync::Arc, time::Instant};

use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout_at};

use crate::{
    domain::{
        id::KeyId,
        inspect::{KeyInspection, KeyInspector},
        key::KeyHash,
    },
    grpc::error::ApiError,
};

/// An inspection walks over the whole cache, so its time grows with the size of the cache. It runs on a
/// blocking thread, and only one runs at a time: many concurrent requests use no more than one core.
#[derive(Debug)]
pub(super) struct InspectionRunner {
    inspector: Arc<KeyInspector>,
    semaphore: Arc<Semaphore>,
}

impl InspectionRunner {
    pub(super) fn new(inspector: KeyInspector) -> Self {
        Self { inspector: Arc::new(inspector), semaphore: Arc::new(Semaphore::new(1)) }
    }

    /// Returns the id of the cached key with a hash.
    pub(super) fn key_id(&self, hash: &KeyHash) -> Option<KeyId> {
        self.inspector.key_id(hash)
    }

    /// Inspects a key.
    ///
    /// # Errors
    /// [`ApiError::RequestTimedOut`] if the inspection cannot start before the deadline;
    /// [`ApiError::Panicked`].
    pub(super) async fn run(&self, key: KeyId, deadline: Instant) -> Result<KeyInspection, ApiError> {
        let permit = timeout_at(deadline.into(), Arc::clone(&self.semaphore).acquire_owned()).await;
        // The semaphore is never closed: the only error is the timeout.
        let Ok(Ok(permit)) = permit else { return Err(ApiError::RequestTimedOut) };
        let inspector = Arc::clone(&self.inspector);
        // The permit is released when the inspection ends, not when its caller stops waiting.
        let task = spawn_blocking(move || {
            let found = inspector.inspect(&key);
            drop(permit);
            found
        });
        task.await.map_err(|_| ApiError::Panicked)
    }
}
