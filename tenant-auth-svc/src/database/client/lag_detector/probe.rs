//! What wants to be on time on each thread, and is not where the thread gets no CPU.

use std::{
    cell::RefCell,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use crate::instruments::lag::{SchedulerLag, WatchedThread};

/// How often each thread is to be on time.
const PROBE_INTERVAL: Duration = Duration::from_millis(25);

thread_local! {
    /// The probes of this thread, and for whom.
    static PROBES: RefCell<Vec<(Weak<SchedulerLag>, JoinHandle<()>)>> = const { RefCell::new(Vec::new()) };
}

/// Measures this thread from now on, for as long as its runtime lives and if anybody wants to know. Once it is measured, this costs
/// next to nothing.
pub(super) fn watch_thread(lag: &Arc<SchedulerLag>) {
    if !lag.is_measuring() {
        return;
    }
    PROBES.with_borrow_mut(|probes| {
        let is_there = |(of, probe): &(Weak<SchedulerLag>, JoinHandle<()>)| {
            !probe.is_finished() && std::ptr::eq(of.as_ptr(), Arc::as_ptr(lag))
        };
        if !probes.iter().any(is_there) {
            probes.retain(|(_, probe)| !probe.is_finished());
            probes.push((Arc::downgrade(lag), tokio::spawn(probe(lag.register_thread()))));
        }
    });
}

/// Is on time again and again, or not.
async fn probe(thread: WatchedThread) {
    loop {
        let due = Instant::now() + PROBE_INTERVAL;
        if !thread.set_due(due) {
            return;
        }
        tokio::time::sleep_until(due.into()).await;
        thread.mark_done(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its thread is held up until what it should have done is long due.
    #[tokio::test]
    async fn blocked_thread_is_measured_as_lag() {
        let lag = Arc::new(SchedulerLag::default());
        lag.start();
        for _ in 0..2 {
            watch_thread(&lag);
        }
        assert_eq!(PROBES.with_borrow(Vec::len), 1, "one is enough");
        // It runs up to its wait.
        tokio::task::yield_now().await;
        let held_up = Instant::now();
        while held_up.elapsed() < PROBE_INTERVAL * 3 {
            std::hint::spin_loop();
        }
        let seen = lag.lag_between(held_up, Instant::now());
        assert!(seen >= PROBE_INTERVAL, "{seen:?}");
    }
}
