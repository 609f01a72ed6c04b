//! Scheduler lag: how late this process runs because it gets no CPU. A call that timed out meanwhile may have been
//! answered long before.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Smaller delays are the granularity of timers.
const MIN_LAG: Duration = Duration::from_millis(5);
/// How long a lag is kept.
const LAG_RETENTION: Duration = Duration::from_secs(60);
/// Maximum number of lags per thread: a minute of lags that are twice as long as a tick.
const MAX_LAGS_PER_THREAD: usize = 1_000;

/// The lags of the threads of this process.
#[derive(Debug, Default)]
pub struct SchedulerLag {
    is_measuring: AtomicBool,
    threads: Mutex<Vec<Arc<Mutex<ThreadLag>>>>,
    /// Lags that were recorded without a watched thread.
    other_threads: Mutex<ThreadLag>,
}

/// The lags of one thread.
#[derive(Debug, Default)]
struct ThreadLag {
    /// When the next wakeup of the thread is due.
    due: Option<Instant>,
    /// When each late wakeup was due, and when it happened.
    lags: VecDeque<(Instant, Instant)>,
}

impl SchedulerLag {
    /// Starts to measure. Until then no lag is recorded: on a busy machine, tests would be affected.
    pub fn start(&self) {
        self.is_measuring.store(true, Ordering::Relaxed);
    }

    /// Whether lags are measured.
    pub fn is_measuring(&self) -> bool {
        self.is_measuring.load(Ordering::Relaxed)
    }

    /// Adds a thread to watch, until the returned handle is dropped.
    pub fn register_thread(self: &Arc<Self>) -> WatchedThread {
        let thread_lag = Arc::<Mutex<ThreadLag>>::default();
        self.lock_threads().push(Arc::clone(&thread_lag));
        WatchedThread { lag: Arc::downgrade(self), thread_lag }
    }

    /// Records that something due at one time was done at another.
    pub fn record(&self, due: Instant, done: Instant) {
        if self.is_measuring() {
            lock(&self.other_threads).record(due, done);
        }
    }

    /// Returns how much of the time between `from` and `until` a thread was late: the maximum over all threads.
    pub fn lag_between(&self, from: Instant, until: Instant) -> Duration {
        self.max_over_threads(|thread| thread.lag_between(from, until))
    }

    /// Returns the maximum lag of a thread within the last minute.
    pub fn max_recent_lag(&self, now: Instant) -> Duration {
        self.max_over_threads(|thread| thread.max_recent_lag(now))
    }

    fn max_over_threads(&self, value_of: impl Fn(&ThreadLag) -> Duration) -> Duration {
        let of_threads =
            self.lock_threads().iter().map(|thread| value_of(&lock(thread))).max().unwrap_or_default();
        of_threads.max(value_of(&lock(&self.other_threads)))
    }

    fn lock_threads(&self) -> MutexGuard<'_, Vec<Arc<Mutex<ThreadLag>>>> {
        lock(&self.threads)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each modification leaves the value consistent, so a poisoned lock is usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ThreadLag {
    fn record(&mut self, due: Instant, done: Instant) {
        if done.saturating_duration_since(due) < MIN_LAG {
            return;
        }
        let is_old = |at: Instant| done.saturating_duration_since(at) > LAG_RETENTION;
        while self.lags.len() >= MAX_LAGS_PER_THREAD || self.lags.front().is_some_and(|(_, at)| is_old(*at)) {
            self.lags.pop_front();
        }
        self.lags.push_back((due, done));
    }

    /// Overlapping lags count once.
    fn lag_between(&self, from: Instant, until: Instant) -> Duration {
        let clip = |(due, done): (Instant, Instant)| (due.max(from), done.min(until));
        let mut times: Vec<_> =
            self.late_intervals(until).map(clip).filter(|(due, done)| due < done).collect();
        times.sort_unstable();
        let (mut late, mut counted_to) = (Duration::ZERO, from);
        for (due, done) in times {
            late += done.saturating_duration_since(due.max(counted_to));
            counted_to = counted_to.max(done);
        }
        late
    }

    fn max_recent_lag(&self, now: Instant) -> Duration {
        let recent = |(_, done): &(Instant, Instant)| now.saturating_duration_since(*done) <= LAG_RETENTION;
        let length = |(due, done): (Instant, Instant)| done.saturating_duration_since(due);
        self.late_intervals(now).filter(recent).map(length).max().unwrap_or_default()
    }

    /// Includes the current lag of a thread that is still late.
    fn late_intervals(&self, now: Instant) -> impl Iterator<Item = (Instant, Instant)> {
        let overdue = self.due.filter(|due| *due < now).map(|due| (due, now));
        self.lags.iter().copied().chain(overdue)
    }
}

/// A thread whose lag is measured.
#[derive(Debug)]
pub struct WatchedThread {
    lag: Weak<SchedulerLag>,
    thread_lag: Arc<Mutex<ThreadLag>>,
}

impl WatchedThread {
    /// Sets when the next wakeup is due. Returns whether the lag is still measured.
    #[must_use]
    pub fn set_due(&self, at: Instant) -> bool {
        lock(&self.thread_lag).due = Some(at);
        self.lag.strong_count() > 0
    }

    /// Records that the wakeup happened.
    pub fn mark_done(&self, at: Instant) {
        let mut thread_lag = lock(&self.thread_lag);
        if let Some(due) = thread_lag.due.take() {
            thread_lag.record(due, at);
        }
    }
}

impl Drop for WatchedThread {
    fn drop(&mut self) {
        if let Some(lag) = self.lag.upgrade() {
            lag.lock_threads().retain(|thread| !Arc::ptr_eq(thread, &self.thread_lag));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn overlapping_lags_count_once_within_the_window() {
        let (lag, start) = (Arc::new(SchedulerLag::default()), Instant::now());
        let at = |ms: u32| start + MILLISECOND * ms;
        lag.record(at(0), at(100));
        assert_eq!(lag.lag_between(at(0), at(300)), Duration::ZERO, "not measured before start()");
        lag.start();
        lag.record(at(0), at(100));
        lag.record(at(50), at(250));
        lag.record(at(280), at(282));
        assert_eq!(lag.lag_between(at(0), at(300)), MILLISECOND * 250);
        assert_eq!(lag.lag_between(at(80), at(300)), MILLISECOND * 170);
        assert_eq!(lag.lag_between(at(260), at(300)), Duration::ZERO);
        assert_eq!(lag.max_recent_lag(at(300)), MILLISECOND * 200);
        let other = lag.register_thread();
        assert!(other.set_due(at(0)));
        assert_eq!(lag.lag_between(at(0), at(300)), MILLISECOND * 300, "the maximum over the threads");
        other.mark_done(at(270));
        assert_eq!(lag.lag_between(at(0), at(300)), MILLISECOND * 270);
        drop(other);
        assert_eq!(lag.max_recent_lag(at(60_251)), Duration::ZERO, "after a minute");
    }

    #[test]
    fn ongoing_lag_counts_and_history_is_bounded() {
        let start = Instant::now();
        let mut thread = ThreadLag { due: Some(start), ..ThreadLag::default() };
        let late: Vec<_> = thread.late_intervals(start + MILLISECOND * 70).collect();
        assert_eq!(late, [(start, start + MILLISECOND * 70)]);
        for _ in 0..MAX_LAGS_PER_THREAD * 2 {
            thread.record(start, start + MILLISECOND * 70);
        }
        assert_eq!(thread.lags.len(), MAX_LAGS_PER_THREAD);
        thread.record(start + LAG_RETENTION * 2, start + LAG_RETENTION * 3);
        assert_eq!(thread.lags.len(), 1, "old lags are dropped");
    }
}
