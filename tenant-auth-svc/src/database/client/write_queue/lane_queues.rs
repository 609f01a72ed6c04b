//! What waits to be written, and whose turn is next.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use crate::{
    database::engine::{Transaction, TransactionResult},
    domain::store::{Call, FailureKind, Lane, StoreError},
    instruments::spans::TraceContext,
};

/// A transaction that waits for its turn.
#[derive(Debug)]
pub(super) struct QueuedWrite {
    pub(super) call: Call,
    pub(super) transaction: Transaction,
    /// On whose behalf.
    pub(super) trace: TraceContext,
    pub(super) reply: oneshot::Sender<TransactionResult>,
}

/// A bounded queue for each lane, and whose turn is next.
#[derive(Debug, Default)]
pub(super) struct LaneQueues {
    queues: [VecDeque<QueuedWrite>; Lane::ALL.len()],
    /// The place in [`Lane::ALL`] of the lane whose turn is next.
    next_lane: usize,
}

impl LaneQueues {
    /// Queues a transaction, or refuses it: as many wait as may.
    pub(super) fn push(&mut self, waiting: QueuedWrite) -> Result<(), StoreError> {
        let lane = waiting.call.lane;
        let capacity = lane.policy().queued_writes;
        let queue = &mut self.queues[lane.index()];
        if queue.len() >= capacity {
            // Of those that have gone nobody has taken note yet.
            queue.retain(|waiting| !waiting.reply.is_closed());
        }
        if queue.len() >= capacity {
            let message = format!("too many {} changes wait for their turn", lane.as_str());
            return Err(StoreError::new(FailureKind::Overloaded, message));
        }
        queue.push_back(waiting);
        Ok(())
    }

    /// Takes up to `sql_limit` transactions of the lane whose turn it is. Those that nobody waits for any longer are dropped: they
    /// have not begun.
    pub(super) fn pop_batch(&mut self, most: usize) -> Option<(Lane, Vec<QueuedWrite>)> {
        for step in 0..Lane::ALL.len() {
            let place = (self.next_lane + step) % Lane::ALL.len();
            let (Some(queue), Some(lane)) = (self.queues.get_mut(place), Lane::ALL.get(place)) else {
                continue;
            };
            let mut together = Vec::new();
            while together.len() < most
                && let Some(waiting) = queue.pop_front()
            {
                if !waiting.reply.is_closed() {
                    together.push(waiting);
                }
            }
            if !together.is_empty() {
                self.next_lane = (place + 1) % Lane::ALL.len();
                return Some((*lane, together));
            }
        }
        None
    }

    pub(super) fn queued(&self, lane: Lane) -> usize {
        self.queues[lane.index()].iter().filter(|waiting| !waiting.reply.is_closed()).count()
    }
}
