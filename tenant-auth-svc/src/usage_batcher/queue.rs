//! Who waits, and how much room is left.

use std::sync::Arc;

use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use crate::domain::{
    store::StoreError,
    usage::{IdempotentWrite, StoredOutcome, UsageError},
};

/// A claim that waits to be committed.
#[derive(Debug)]
pub(super) struct WaitingRequest {
    pub(super) write: IdempotentWrite,
    pub(super) arrived_at: Instant,
    /// Whoever it is for may have gone.
    pub(super) reply: oneshot::Sender<Result<StoredOutcome, StoreError>>,
    pub(super) _permit: QueuePermit,
}

/// A bounded number of places, each for an event.
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

/// Some of the places, given back when dropped.
#[derive(Debug)]
pub(super) struct QueuePermit {
    limiter: Arc<QueueLimiter>,
    count: usize,
}

impl QueueLimiter {
    pub(super) fn new(most: usize) -> Self {
        Self { capacity: most, state: watch::Sender::new(QueueState::default()) }
    }

    /// Takes places, all or none.
    pub(super) fn acquire(this: &Arc<Self>, count: usize) -> Result<QueuePermit, UsageError> {
        let mut refusal = None;
        this.state.send_if_modified(|state| {
            if state.is_closed {
                refusal = Some(UsageError::Stopping);
            } else if state.in_use + count > this.capacity {
                refusal = Some(UsageError::QueueFull);
            } else {
                state.in_use += count;
            }
            refusal.is_none()
        });
        refusal.map_or_else(|| Ok(QueuePermit { limiter: Arc::clone(this), count }), Err)
    }

    /// Gives no more places away.
    pub(super) fn close(&self) {
        self.state.send_modify(|state| state.is_closed = true);
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn in_use(&self) -> usize {
        self.state.borrow().in_use
    }

    pub(super) async fn wait_until(&self, mut wanted: impl FnMut(usize) -> bool) {
        // The sender lives as long as `self`.
        let _ = self.state.subscribe().wait_for(|state| wanted(state.in_use)).await;
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
        let places = Arc::new(QueueLimiter::new(10));
        let place = QueueLimiter::acquire(&places, 8).unwrap();
        assert_eq!(QueueLimiter::acquire(&places, 3).unwrap_err(), UsageError::QueueFull);
        let rest = QueueLimiter::acquire(&places, 2).unwrap();
        drop(place);
        assert_eq!(places.in_use(), 2);
        places.close();
        assert_eq!(QueueLimiter::acquire(&places, 1).unwrap_err(), UsageError::Stopping);
        drop(rest);
        assert_eq!(places.in_use(), 0);
    }
}
