//! A periodic task on each thread, which is late when the thread gets no CPU.

use std::{
    cell::RefCell,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use crate::instruments::lag::{SchedulerLag, WatchedThread};

/// Interval of the periodic task.
const PROBE_INTERVAL: Duration = Duration::from_millis(25);

thread_local! {
    /// The tasks of this thread, each with its scheduler lag.
    static PROBES: RefCell<Vec<(Weak<SchedulerLag>, JoinHandle<()>)>> = const { RefCell::new(Vec::new()) };
}

/// Starts to measure the current thread, for as long as its runtime lives and the lag is measured. On a thread that
/// is measured already, this costs next to nothing.
pub(super) fn watch_thread(lag: &Arc<SchedulerLag>) {
    if !lag.is_measuring() {
        return;
    }
    PROBES.with_borrow_mut(|probes| {
        let is_measured = |(owner, probe): &(Weak<SchedulerLag>, JoinHandle<()>)| {
            !probe.is_finished() && std::ptr::eq(owner.as_ptr(), Arc::as_ptr(lag))
        };
        if !probes.iter().any(is_measured) {
            probes.retain(|(_, probe)| !probe.is_finished());
            probes.push((Arc::downgrade(lag), tokio::spawn(probe(lag.register_thread()))));
        }
    });
}

/// Sets the next wakeup, sleeps, and records when it happened.
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

    /// The thread is blocked until long after the wakeup was due.
    #[tokio::test]
    async fn blocked_thread_is_measured_as_lag() {
        let lag = Arc::new(SchedulerLag::default());
        lag.start();
        for _ in 0..2 {
            watch_thread(&lag);
        }
        assert_eq!(PROBES.with_borrow(Vec::len), 1, "one task per thread");
        // Runs the task up to its sleep.
        tokio::task::yield_now().await;
        let blocked_at = Instant::now();
        while blocked_at.elapsed() < PROBE_INTERVAL * 3 {
            std::hint::spin_loop();
        }
        let measured = lag.lag_between(blocked_at, Instant::now());
        assert!(measured >= PROBE_INTERVAL, "{measured:?}");
    }
}
