//! What wants to be on time on each thread, and is not where the thread gets no CPU.

use std::{
    cell::RefCell,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use crate::instruments::lag::{SchedulerLag, WatchedThread};

/// How often each thread is to be on time.
const TICK: Duration = Duration::from_millis(25);

thread_local! {
    /// The probes of this thread, and for whom.
    static PROBES: RefCell<Vec<(Weak<SchedulerLag>, JoinHandle<()>)>> = const { RefCell::new(Vec::new()) };
}

/// Measures this thread from now on, for as long as its runtime lives and if anybody wants to know. Once it is measured, this costs
/// next to nothing.
pub(super) fn watch_thread(lag: &Arc<SchedulerLag>) {
    if !lag.is_watched() {
        return;
    }
    PROBES.with_borrow_mut(|probes| {
        let is_there = |(of, probe): &(Weak<SchedulerLag>, JoinHandle<()>)| {
            !probe.is_finished() && std::ptr::eq(of.as_ptr(), Arc::as_ptr(lag))
        };
        if !probes.iter().any(is_there) {
            probes.retain(|(_, probe)| !probe.is_finished());
            probes.push((Arc::downgrade(lag), tokio::spawn(probe(lag.thread()))));
        }
    });
}

/// Is on time again and again, or not.
async fn probe(thread: WatchedThread) {
    loop {
        let due = Instant::now() + TICK;
        if !thread.is_due(due) {
            return;
        }
        tokio::time::sleep_until(due.into()).await;
        thread.has_done(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its thread is held up until what it should have done is long due.
    #[tokio::test]
    async fn a_thread_that_is_held_up_is_seen() {
        let lag = Arc::new(SchedulerLag::default());
        lag.begin();
        for _ in 0..2 {
            watch_thread(&lag);
        }
        assert_eq!(PROBES.with_borrow(Vec::len), 1, "one is enough");
        // It runs up to its wait.
        tokio::task::yield_now().await;
        let held_up = Instant::now();
        while held_up.elapsed() < TICK * 3 {
            std::hint::spin_loop();
        }
        let seen = lag.between(held_up, Instant::now());
        assert!(seen >= TICK, "{seen:?}");
    }
}
