//! The queue of usage requests, and its limit.

use std::sync::Arc;

use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use crate::domain::{
    store::StoreError,
    usage::{IdempotentWrite, StoredOutcome, UsageError},
};

/// A write that waits to be committed.
#[derive(Debug)]
pub(super) struct WaitingRequest {
    pub(super) write: IdempotentWrite,
    pub(super) arrived_at: Instant,
    /// The receiver may have been dropped.
    pub(super) reply: oneshot::Sender<Result<StoredOutcome, StoreError>>,
    pub(super) _permit: QueuePermit,
}

/// Limits the number of queued events.
#[derive(Debug)]
pub(super) struct QueueLimiter {
    capacity: usize,
    state: watch::Sender<QueueState>,
}

#[derive(Clone, Copy, Debug, Default)]
struct QueueState {
    in_use: usize,
    is_closed: bool,
}

/// Permits for some events, released on drop.
#[derive(Debug)]
pub(super) struct QueuePermit {
    limiter: Arc<QueueLimiter>,
    count: usize,
}

impl QueueLimiter {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, state: watch::Sender::new(QueueState::default()) }
    }

    /// Acquires all permits or none.
    pub(super) fn acquire(this: &Arc<Self>, count: usize) -> Result<QueuePermit, UsageError> {
        let mut error = None;
        this.state.send_if_modified(|state| {
            if state.is_closed {
                error = Some(UsageError::Stopping);
            } else if state.in_use + count > this.capacity {
                error = Some(UsageError::QueueFull);
            } else {
                state.in_use += count;
            }
            error.is_none()
        });
        error.map_or_else(|| Ok(QueuePermit { limiter: Arc::clone(this), count }), Err)
    }

    /// Refuses further permits.
    pub(super) fn close(&self) {
        self.state.send_modify(|state| state.is_closed = true);
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn in_use(&self) -> usize {
        self.state.borrow().in_use
    }

    pub(super) async fn wait_until(&self, mut condition: impl FnMut(usize) -> bool) {
        // The sender lives as long as `self`.
        let _ = self.state.subscribe().wait_for(|state| condition(state.in_use)).await;
    }
}

impl Drop for QueuePermit {
    fn drop(&mut self) {
        self.limiter.state.send_modify(|state| state.in_use -= self.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_or_closed_queue_refuses_requests() {
        let limiter = Arc::new(QueueLimiter::new(10));
        let permit = QueueLimiter::acquire(&limiter, 8).unwrap();
        assert_eq!(QueueLimiter::acquire(&limiter, 3).unwrap_err(), UsageError::QueueFull);
        let rest = QueueLimiter::acquire(&limiter, 2).unwrap();
        drop(permit);
        assert_eq!(limiter.in_use(), 2);
        limiter.close();
        assert_eq!(QueueLimiter::acquire(&limiter, 1).unwrap_err(), UsageError::Stopping);
        drop(rest);
        assert_eq!(limiter.in_use(), 0);
    }
}
