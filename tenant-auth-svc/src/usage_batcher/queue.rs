//! Who waits, and how much room is left.

use std::sync::Arc;

use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use crate::domain::{
    store::StoreError,
    usage::{Claim, Kept, UsageError},
};

/// A claim that waits to be committed.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) claim: Claim,
    pub(super) arrived: Instant,
    /// Whoever it is for may have gone.
    pub(super) answer: oneshot::Sender<Result<Kept, StoreError>>,
    pub(super) _place: Place,
}

/// A bounded number of places, each for an event.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    taken: usize,
    closed: bool,
}

/// Some of the places, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    count: usize,
}

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self { most, state: watch::Sender::new(State::default()) }
    }

    /// Takes places, all or none.
    pub(super) fn take(this: &Arc<Self>, count: usize) -> Result<Place, UsageError> {
        let mut refusal = None;
        this.state.send_if_modified(|state| {
            if state.closed {
                refusal = Some(UsageError::Stopping);
            } else if state.taken + count > this.most {
                refusal = Some(UsageError::QueueFull);
            } else {
                state.taken += count;
            }
            refusal.is_none()
        });
        refusal.map_or_else(|| Ok(Place { places: Arc::clone(this), count }), Err)
    }

    /// Gives no more places away.
    pub(super) fn close(&self) {
        self.state.send_modify(|state| state.closed = true);
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }

    pub(super) fn taken(&self) -> usize {
        self.state.borrow().taken
    }

    pub(super) async fn until(&self, mut wanted: impl FnMut(usize) -> bool) {
        // The sender lives as long as `self`.
        let _ = self.state.subscribe().wait_for(|state| wanted(state.taken)).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.state.send_modify(|state| state.taken -= self.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_refuses_and_a_closed_one_too() {
        let places = Arc::new(Places::new(10));
        let place = Places::take(&places, 8).unwrap();
        assert_eq!(Places::take(&places, 3).unwrap_err(), UsageError::QueueFull);
        let rest = Places::take(&places, 2).unwrap();
        drop(place);
        assert_eq!(places.taken(), 2);
        places.close();
        assert_eq!(Places::take(&places, 1).unwrap_err(), UsageError::Stopping);
        drop(rest);
        assert_eq!(places.taken(), 0);
    }
}
