//! The write lock as sqld 0.24 implements it: a queue of connections, served in order.
//!
//! It reproduces that server's defect, too. A connection whose client disconnects keeps its position in the
//! queue. When its turn comes, the lock is granted to it and is never released: from then on no transaction
//! starts until the server is restarted, while every read works and `/health` reports no problem.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::counters::SharedCounters;

/// Tracks whether the client of a request is still connected.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    is_disconnected: Arc<AtomicBool>,
    /// Number of restarts before the request arrived: the request is unknown to a later server.
    restarts: u64,
}

impl Client {
    /// Marks the client as disconnected.
    pub(crate) fn disconnect(&self) {
        self.is_disconnected.store(true, Ordering::SeqCst);
    }

    fn is_disconnected(&self) -> bool {
        self.is_disconnected.load(Ordering::SeqCst)
    }
}

/// The write lock.
#[derive(Debug)]
pub(crate) struct WriteLock {
    state: Mutex<LockState>,
    changed: Condvar,
    counters: SharedCounters,
}

#[derive(Debug, Default)]
struct LockState {
    queue: VecDeque<u64>,
    next_ticket: u64,
    is_held: bool,
    /// While set, the holder of the lock keeps it.
    is_frozen: bool,
    is_wedged: bool,
    /// Incremented by a restart: requests from before it fail.
    restarts: u64,
    /// Set when the server is dropped: the lock is no longer granted, and waiting ends.
    is_closed: bool,
}

/// The right to write. Dropping it releases the lock.
#[derive(Debug)]
pub(crate) struct WriteGuard(Arc<WriteLock>);

impl Drop for WriteGuard {
    fn drop(&mut self) {
        let mut state = self.0.state();
        while state.is_frozen && !state.is_closed {
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_held = false;
        self.0.changed.notify_all();
    }
}

impl WriteLock {
    pub(crate) fn new(tally: SharedCounters) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: Condvar::new(), counters: tally })
    }

    /// Returns the client of a request that has just arrived.
    pub(crate) fn client(&self) -> Client {
        Client { is_disconnected: Arc::default(), restarts: self.state().restarts }
    }

    /// Waits in the queue; `None` if the server was restarted meanwhile, or was dropped.
    pub(crate) fn acquire(self: &Arc<Self>, client: &Client) -> Option<WriteGuard> {
        let mut state = self.state();
        if Self::is_cancelled(&state, client) {
            return None;
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        // A client that need not wait has the lock before its disconnection could be noticed.
        let waits = state.is_held || !state.queue.is_empty();
        state.queue.push_back(ticket);
        self.update_counters(&state);
        loop {
            if Self::is_cancelled(&state, client) {
                return None;
            }
            let is_next = state.queue.front() == Some(&ticket);
            if is_next && !state.is_held && !state.is_wedged {
                state.queue.pop_front();
                self.update_counters(&state);
                if !(waits && client.is_disconnected()) {
                    state.is_held = true;
                    return Some(WriteGuard(Arc::clone(self)));
                }
                // The lock was granted to a disconnected client.
                state.is_wedged = true;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Makes the current and the next holder keep the lock, as during a long checkpoint.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.state().is_frozen = frozen;
        self.changed.notify_all();
    }

    pub(crate) fn is_wedged(&self) -> bool {
        self.state().is_wedged
    }

    /// Simulates a restart: no client waits, and none holds the lock.
    pub(crate) fn restart(&self) {
        let mut state = self.state();
        let restarts = state.restarts + 1;
        *state = LockState {
            restarts,
            next_ticket: state.next_ticket,
            is_held: state.is_held,
            is_closed: state.is_closed,
            ..LockState::default()
        };
        self.update_counters(&state);
        self.changed.notify_all();
    }

    /// Closes the lock for good: a waiting thread would keep the test's runtime from shutting down.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
        self.changed.notify_all();
    }

    fn is_cancelled(state: &LockState, client: &Client) -> bool {
        state.restarts != client.restarts || state.is_closed
    }

    fn update_counters(&self, state: &LockState) {
        let waiting = state.queue.len() as u64;
        self.counters.update(|counters| {
            counters.waiting_writers = waiting;
            counters.max_waiting_writers = counters.max_waiting_writers.max(waiting);
        });
    }

    fn state(&self) -> MutexGuard<'_, LockState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn client_from_before_a_restart_never_gets_the_lock() {
        let lock = WriteLock::new(SharedCounters::new());
        let (early, holder) = (lock.client(), lock.client());
        let held = lock.acquire(&holder).expect("the lock is free");
        lock.restart();
        assert!(lock.acquire(&early).is_none(), "requests from before a restart get no lock");
        drop(held);
        assert!(lock.acquire(&lock.client()).is_some());
    }

    #[test]
    fn closed_write_lock_never_blocks() {
        let lock = WriteLock::new(SharedCounters::new());
        let holder = lock.client();
        let held = lock.acquire(&holder).expect("the lock is free");
        lock.freeze(true);
        lock.close();
        drop(held);
        assert!(lock.acquire(&lock.client()).is_none());
    }
}
