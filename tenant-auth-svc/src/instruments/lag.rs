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
const KEPT_FOR: Duration = Duration::from_secs(60);
/// The most of them for each thread: a minute of lags that are twice as long as a tick.
const MAX_KEPT: usize = 1_000;

/// The times that threads of this process were late for.
#[derive(Debug, Default)]
pub struct SchedulerLag {
    is_watched: AtomicBool,
    threads: Mutex<Vec<Arc<Mutex<Lateness>>>>,
    /// What was seen elsewhere, on whatever thread.
    noted: Mutex<Lateness>,
}

/// That of one thread.
#[derive(Debug, Default)]
struct Lateness {
    /// What it has to be on time for next.
    due: Option<Instant>,
    /// Since when it was due, and when it was done.
    late: VecDeque<(Instant, Instant)>,
}

impl SchedulerLag {
    /// Begins to measure. Until then nobody counts as late: on a busy machine, tests would be.
    pub fn begin(&self) {
        self.is_watched.store(true, Ordering::Relaxed);
    }

    /// Whether anybody measures.
    pub fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed)
    }

    /// One more thread that is measured, until it is dropped.
    pub fn thread(self: &Arc<Self>) -> WatchedThread {
        let lateness = Arc::<Mutex<Lateness>>::default();
        self.threads().push(Arc::clone(&lateness));
        WatchedThread { lag: Arc::downgrade(self), lateness }
    }

    /// Notes that something due at a moment was done at another.
    pub fn note(&self, due: Instant, done: Instant) {
        if self.is_watched() {
            lock(&self.noted).note(due, done);
        }
    }

    /// For how much of the time between two moments a thread was late, the one that was most.
    pub fn between(&self, from: Instant, until: Instant) -> Duration {
        self.most(|thread| thread.between(from, until))
    }

    /// How late a thread was at most within the last minute.
    pub fn longest(&self, now: Instant) -> Duration {
        self.most(|thread| thread.longest(now))
    }

    fn most(&self, of: impl Fn(&Lateness) -> Duration) -> Duration {
        let of_threads = self.threads().iter().map(|thread| of(&lock(thread))).max().unwrap_or_default();
        of_threads.max(of(&lock(&self.noted)))
    }

    fn threads(&self) -> MutexGuard<'_, Vec<Arc<Mutex<Lateness>>>> {
        lock(&self.threads)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is made of steps that leave it usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lateness {
    fn note(&mut self, due: Instant, done: Instant) {
        if done.saturating_duration_since(due) < MIN_LAG {
            return;
        }
        let old = |at: Instant| done.saturating_duration_since(at) > KEPT_FOR;
        while self.late.len() >= MAX_KEPT || self.late.front().is_some_and(|(_, at)| old(*at)) {
            self.late.pop_front();
        }
        self.late.push_back((due, done));
    }

    /// What several were late for at once counts once.
    fn between(&self, from: Instant, until: Instant) -> Duration {
        let within = |(due, done): (Instant, Instant)| (due.max(from), done.min(until));
        let mut times: Vec<_> = self.times(until).map(within).filter(|(due, done)| due < done).collect();
        times.sort_unstable();
        let (mut late, mut counted_to) = (Duration::ZERO, from);
        for (due, done) in times {
            late += done.saturating_duration_since(due.max(counted_to));
            counted_to = counted_to.max(done);
        }
        late
    }

    fn longest(&self, now: Instant) -> Duration {
        let recent = |(_, done): &(Instant, Instant)| now.saturating_duration_since(*done) <= KEPT_FOR;
        let length = |(due, done): (Instant, Instant)| done.saturating_duration_since(due);
        self.times(now).filter(recent).map(length).max().unwrap_or_default()
    }

    /// With what it is late for at this moment: it may be late still.
    fn times(&self, now: Instant) -> impl Iterator<Item = (Instant, Instant)> {
        let overdue = self.due.filter(|due| *due < now).map(|due| (due, now));
        self.late.iter().copied().chain(overdue)
    }
}

/// A thread that is measured.
#[derive(Debug)]
pub struct WatchedThread {
    lag: Weak<SchedulerLag>,
    lateness: Arc<Mutex<Lateness>>,
}

impl WatchedThread {
    /// It is to be on time at a moment. Whether anybody still wants to know.
    #[must_use]
    pub fn is_due(&self, at: Instant) -> bool {
        lock(&self.lateness).due = Some(at);
        self.lag.strong_count() > 0
    }

    /// It has done what was due, at a moment.
    pub fn has_done(&self, at: Instant) {
        let mut lateness = lock(&self.lateness);
        if let Some(due) = lateness.due.take() {
            lateness.note(due, at);
        }
    }
}

impl Drop for WatchedThread {
    fn drop(&mut self) {
        if let Some(lag) = self.lag.upgrade() {
            lag.threads().retain(|thread| !Arc::ptr_eq(thread, &self.lateness));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_overlaps_counts_once_and_only_what_lies_between() {
        let (lag, start) = (Arc::new(SchedulerLag::default()), Instant::now());
        let at = |ms: u32| start + MS * ms;
        lag.note(at(0), at(100));
        assert_eq!(lag.between(at(0), at(300)), Duration::ZERO, "nobody has asked for it");
        lag.begin();
        lag.note(at(0), at(100));
        lag.note(at(50), at(250));
        lag.note(at(280), at(282));
        assert_eq!(lag.between(at(0), at(300)), MS * 250);
        assert_eq!(lag.between(at(80), at(300)), MS * 170);
        assert_eq!(lag.between(at(260), at(300)), Duration::ZERO);
        assert_eq!(lag.longest(at(300)), MS * 200);
        let other = lag.thread();
        assert!(other.is_due(at(0)));
        assert_eq!(lag.between(at(0), at(300)), MS * 300, "that of the thread that was late for most of it");
        other.has_done(at(270));
        assert_eq!(lag.between(at(0), at(300)), MS * 270);
        drop(other);
        assert_eq!(lag.longest(at(60_251)), Duration::ZERO, "a minute later");
    }

    #[test]
    fn who_is_late_still_counts_and_memory_is_bounded() {
        let start = Instant::now();
        let mut thread = Lateness { due: Some(start), ..Lateness::default() };
        let late: Vec<_> = thread.times(start + MS * 70).collect();
        assert_eq!(late, [(start, start + MS * 70)]);
        for _ in 0..MAX_KEPT * 2 {
            thread.note(start, start + MS * 70);
        }
        assert_eq!(thread.late.len(), MAX_KEPT);
        thread.note(start + KEPT_FOR * 2, start + KEPT_FOR * 3);
        assert_eq!(thread.late.len(), 1, "what is old is forgotten");
    }
}
