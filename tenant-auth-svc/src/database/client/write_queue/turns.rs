//! What waits to be written, and whose turn is next.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use crate::{
    database::engine::{Outcome, Transaction},
    domain::store::{Call, FailureKind, Lane, StoreError},
    instruments::spans::Within,
};

/// A transaction that waits for its turn.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) call: Call,
    pub(super) transaction: Transaction,
    /// On whose behalf.
    pub(super) within: Within,
    pub(super) answer: oneshot::Sender<Outcome>,
}

/// A bounded queue for each lane, and whose turn is next.
#[derive(Debug, Default)]
pub(super) struct Turns {
    queues: [VecDeque<Waiting>; Lane::ALL.len()],
    /// The place in [`Lane::ALL`] of the lane whose turn is next.
    next: usize,
}

impl Turns {
    /// Queues a transaction, or refuses it: as many wait as may.
    pub(super) fn push(&mut self, waiting: Waiting) -> Result<(), StoreError> {
        let lane = waiting.call.lane;
        let capacity = lane.policy().queued_writes;
        let queue = &mut self.queues[lane.index()];
        if queue.len() >= capacity {
            // Of those that have gone nobody has taken note yet.
            queue.retain(|waiting| !waiting.answer.is_closed());
        }
        if queue.len() >= capacity {
            let message = format!("too many {} changes wait for their turn", lane.as_str());
            return Err(StoreError::new(FailureKind::Overloaded, message));
        }
        queue.push_back(waiting);
        Ok(())
    }

    /// Takes up to `most` transactions of the lane whose turn it is. Those that nobody waits for any longer are dropped: they
    /// have not begun.
    pub(super) fn take(&mut self, most: usize) -> Option<(Lane, Vec<Waiting>)> {
        for step in 0..Lane::ALL.len() {
            let place = (self.next + step) % Lane::ALL.len();
            let (Some(queue), Some(lane)) = (self.queues.get_mut(place), Lane::ALL.get(place)) else {
                continue;
            };
            let mut together = Vec::new();
            while together.len() < most
                && let Some(waiting) = queue.pop_front()
            {
                if !waiting.answer.is_closed() {
                    together.push(waiting);
                }
            }
            if !together.is_empty() {
                self.next = (place + 1) % Lane::ALL.len();
                return Some((*lane, together));
            }
        }
        None
    }

    pub(super) fn waiting(&self, lane: Lane) -> usize {
        self.queues[lane.index()].iter().filter(|waiting| !waiting.answer.is_closed()).count()
    }
}
