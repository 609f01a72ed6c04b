//! How late this process is for what it meant to do, because it was given no CPU: whatever ran out of time then may have been
//! answered long before.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Less than this is the coarseness of timers.
const MIN_LAG: Duration = Duration::from_millis(5);
/// How long a time that a thread was late for is remembered.
const LAG_RETENTION: Duration = Duration::from_secs(60);
/// The most of them for each thread: a minute of lags that are twice as long as a tick.
const MAX_LAGS_PER_THREAD: usize = 1_000;

/// The times that threads of this process were late for.
#[derive(Debug, Default)]
pub struct SchedulerLag {
    is_measuring: AtomicBool,
    threads: Mutex<Vec<Arc<Mutex<ThreadLag>>>>,
    /// What was seen elsewhere, on whatever thread.
    other_threads: Mutex<ThreadLag>,
}

/// That of one thread.
#[derive(Debug, Default)]
struct ThreadLag {
    /// What it has to be on time for next.
    due: Option<Instant>,
    /// Since when it was due, and when it was done.
    lags: VecDeque<(Instant, Instant)>,
}

impl SchedulerLag {
    /// Begins to measure. Until then nobody counts as late: on a busy machine, tests would be.
    pub fn start(&self) {
        self.is_measuring.store(true, Ordering::Relaxed);
    }

    /// Whether anybody measures.
    pub fn is_measuring(&self) -> bool {
        self.is_measuring.load(Ordering::Relaxed)
    }

    /// One more thread that is measured, until it is dropped.
    pub fn register_thread(self: &Arc<Self>) -> WatchedThread {
        let lateness = Arc::<Mutex<ThreadLag>>::default();
        self.lock_threads().push(Arc::clone(&lateness));
        WatchedThread { lag: Arc::downgrade(self), thread_lag: lateness }
    }

    /// Notes that something due at a moment was done at another.
    pub fn record(&self, due: Instant, done: Instant) {
        if self.is_measuring() {
            lock(&self.other_threads).record(due, done);
        }
    }

    /// For how much of the time between two moments a thread was late, the one that was most.
    pub fn lag_between(&self, from: Instant, until: Instant) -> Duration {
        self.max_over_threads(|thread| thread.lag_between(from, until))
    }

    /// How late a thread was at most within the last minute.
    pub fn max_recent_lag(&self, now: Instant) -> Duration {
        self.max_over_threads(|thread| thread.max_recent_lag(now))
    }

    fn max_over_threads(&self, of: impl Fn(&ThreadLag) -> Duration) -> Duration {
        let of_threads = self.lock_threads().iter().map(|thread| of(&lock(thread))).max().unwrap_or_default();
        of_threads.max(of(&lock(&self.other_threads)))
    }

    fn lock_threads(&self) -> MutexGuard<'_, Vec<Arc<Mutex<ThreadLag>>>> {
        lock(&self.threads)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is made of steps that leave it usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ThreadLag {
    fn record(&mut self, due: Instant, done: Instant) {
        if done.saturating_duration_since(due) < MIN_LAG {
            return;
        }
        let old = |at: Instant| done.saturating_duration_since(at) > LAG_RETENTION;
        while self.lags.len() >= MAX_LAGS_PER_THREAD || self.lags.front().is_some_and(|(_, at)| old(*at)) {
            self.lags.pop_front();
        }
        self.lags.push_back((due, done));
    }

    /// What several were late for at once counts once.
    fn lag_between(&self, from: Instant, until: Instant) -> Duration {
        let within = |(due, done): (Instant, Instant)| (due.max(from), done.min(until));
        let mut times: Vec<_> =
            self.late_intervals(until).map(within).filter(|(due, done)| due < done).collect();
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

    /// With what it is late for at this moment: it may be late still.
    fn late_intervals(&self, now: Instant) -> impl Iterator<Item = (Instant, Instant)> {
        let overdue = self.due.filter(|due| *due < now).map(|due| (due, now));
        self.lags.iter().copied().chain(overdue)
    }
}

/// A thread that is measured.
#[derive(Debug)]
pub struct WatchedThread {
    lag: Weak<SchedulerLag>,
    thread_lag: Arc<Mutex<ThreadLag>>,
}

impl WatchedThread {
    /// It is to be on time at a moment. Whether anybody still wants to know.
    #[must_use]
    pub fn set_due(&self, at: Instant) -> bool {
        lock(&self.thread_lag).due = Some(at);
        self.lag.strong_count() > 0
    }

    /// It has done what was due, at a moment.
    pub fn mark_done(&self, at: Instant) {
        let mut lateness = lock(&self.thread_lag);
        if let Some(due) = lateness.due.take() {
            lateness.record(due, at);
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
        assert_eq!(lag.lag_between(at(0), at(300)), Duration::ZERO, "nobody has asked for it");
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
        assert_eq!(
            lag.lag_between(at(0), at(300)),
            MILLISECOND * 300,
            "that of the thread that was late for most of it"
        );
        other.mark_done(at(270));
        assert_eq!(lag.lag_between(at(0), at(300)), MILLISECOND * 270);
        drop(other);
        assert_eq!(lag.max_recent_lag(at(60_251)), Duration::ZERO, "a minute later");
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
        assert_eq!(thread.lags.len(), 1, "what is old is forgotten");
    }
}
