//! The lock for writing, as a sqld 0.24 keeps it: a line of connections, served in order.
//!
//! It has the real one's flaw, too. A connection whose client goes away keeps its place in the line. When its turn comes, the
//! lock is handed to it, and nobody is there to give it back: from then on no transaction begins until the server is
//! restarted, while every read works and `/health` says that all is well.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::counters::Tally;

/// Whether the client of a request is still there.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    has_left: Arc<AtomicBool>,
    /// How often the server had been restarted when the request came: a later server knows nothing of it.
    restarts: u64,
}

impl Client {
    /// It has gone.
    pub(crate) fn leave(&self) {
        self.has_left.store(true, Ordering::SeqCst);
    }

    fn has_left(&self) -> bool {
        self.has_left.load(Ordering::SeqCst)
    }
}

/// The lock.
#[derive(Debug)]
pub(crate) struct WriteLock {
    state: Mutex<State>,
    moved: Condvar,
    tally: Tally,
}

#[derive(Debug, Default)]
struct State {
    line: VecDeque<u64>,
    next: u64,
    held: bool,
    /// Whoever holds it keeps it until this is taken back.
    frozen: bool,
    wedged: bool,
    /// Raised by a restart: who came before it gets an error.
    restarts: u64,
    /// The server is gone for good: nobody gets it any more, or waits for anything.
    is_closed: bool,
}

/// Whoever has it may write. It is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Held(Arc<WriteLock>);

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.0.state();
        while state.frozen && !state.is_closed {
            state = self.0.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.held = false;
        self.0.moved.notify_all();
    }
}

impl WriteLock {
    pub(crate) fn new(tally: Tally) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), moved: Condvar::new(), tally })
    }

    /// Somebody whose request has just come.
    pub(crate) fn client(&self) -> Client {
        Client { has_left: Arc::default(), restarts: self.state().restarts }
    }

    /// Waits in the line; `None` when the server was restarted meanwhile, or is gone.
    pub(crate) fn take(self: &Arc<Self>, client: &Client) -> Option<Held> {
        let mut state = self.state();
        if Self::is_over(&state, client) {
            return None;
        }
        let place = state.next;
        state.next += 1;
        // Who need not wait has the lock before anybody could notice that it has left.
        let waits = state.held || !state.line.is_empty();
        state.line.push_back(place);
        self.count(&state);
        loop {
            if Self::is_over(&state, client) {
                return None;
            }
            let is_next = state.line.front() == Some(&place);
            if is_next && !state.held && !state.wedged {
                state.line.pop_front();
                self.count(&state);
                if !(waits && client.has_left()) {
                    state.held = true;
                    return Some(Held(Arc::clone(self)));
                }
                // Handed to nobody.
                state.wedged = true;
            }
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whoever holds it, or takes it, keeps it for now, as during a long checkpoint.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.state().frozen = frozen;
        self.moved.notify_all();
    }

    pub(crate) fn is_wedged(&self) -> bool {
        self.state().wedged
    }

    /// As after a restart: nobody waits, nobody has it.
    pub(crate) fn restart(&self) {
        let mut state = self.state();
        let restarts = state.restarts + 1;
        *state = State {
            restarts,
            next: state.next,
            held: state.held,
            is_closed: state.is_closed,
            ..State::default()
        };
        self.count(&state);
        self.moved.notify_all();
    }

    /// For good: a thread that waited here, or came to wait, would keep the test's runtime from ending.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
        self.moved.notify_all();
    }

    fn is_over(state: &State, client: &Client) -> bool {
        state.restarts != client.restarts || state.is_closed
    }

    fn count(&self, state: &State) {
        let waiting = state.line.len() as u64;
        self.tally.count(|counters| {
            counters.waiting_writers = waiting;
            counters.max_waiting_writers = counters.max_waiting_writers.max(waiting);
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn who_came_before_a_restart_never_gets_the_lock_after_it() {
        let lock = WriteLock::new(Tally::new());
        let (early, holder) = (lock.client(), lock.client());
        let held = lock.take(&holder).expect("nobody has it");
        lock.restart();
        assert!(lock.take(&early).is_none(), "its request ended with the server that it came to");
        drop(held);
        assert!(lock.take(&lock.client()).is_some());
    }

    #[test]
    fn nobody_waits_for_a_server_that_is_gone() {
        let lock = WriteLock::new(Tally::new());
        let holder = lock.client();
        let held = lock.take(&holder).expect("nobody has it");
        lock.freeze(true);
        lock.close();
        drop(held);
        assert!(lock.take(&lock.client()).is_none());
    }
}
