//! The queued writes of each lane.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use crate::{
    database::engine::{Transaction, TransactionResult},
    domain::store::{Call, FailureKind, Lane, StoreError},
    instruments::spans::TraceContext,
};

/// A queued transaction.
#[derive(Debug)]
pub(super) struct QueuedWrite {
    pub(super) call: Call,
    pub(super) transaction: Transaction,
    /// The trace of its request.
    pub(super) trace: TraceContext,
    pub(super) reply: oneshot::Sender<TransactionResult>,
}

/// A bounded queue per lane, served in turn.
#[derive(Debug, Default)]
pub(super) struct LaneQueues {
    queues: [VecDeque<QueuedWrite>; Lane::ALL.len()],
    /// Index in [`Lane::ALL`] of the lane that is served next.
    next_lane: usize,
}

impl LaneQueues {
    /// Queues a transaction, or rejects it if the lane's queue is full.
    pub(super) fn push(&mut self, write: QueuedWrite) -> Result<(), StoreError> {
        let lane = write.call.lane;
        let capacity = lane.policy().queued_writes;
        let queue = &mut self.queues[lane.index()];
        if queue.len() >= capacity {
            // Transactions of disconnected callers are still in the queue: remove them.
            queue.retain(|write| !write.reply.is_closed());
        }
        if queue.len() >= capacity {
            let message = format!("too many queued {} writes", lane.as_str());
            return Err(StoreError::new(FailureKind::Overloaded, message));
        }
        queue.push_back(write);
        Ok(())
    }

    /// Takes up to `max_transactions` transactions of the lane that is next. Those of disconnected callers are
    /// dropped: they were not sent.
    pub(super) fn pop_batch(&mut self, max_transactions: usize) -> Option<(Lane, Vec<QueuedWrite>)> {
        for step in 0..Lane::ALL.len() {
            let index = (self.next_lane + step) % Lane::ALL.len();
            let (Some(queue), Some(lane)) = (self.queues.get_mut(index), Lane::ALL.get(index)) else {
                continue;
            };
            let mut batch = Vec::new();
            while batch.len() < max_transactions
                && let Some(write) = queue.pop_front()
            {
                if !write.reply.is_closed() {
                    batch.push(write);
                }
            }
            if !batch.is_empty() {
                self.next_lane = (index + 1) % Lane::ALL.len();
                return Some((*lane, batch));
            }
        }
        None
    }

    pub(super) fn queued(&self, lane: Lane) -> usize {
        self.queues[lane.index()].iter().filter(|write| !write.reply.is_closed()).count()
    }
}
