//! One circuit: the calls that say something about each other, and whether they are let through.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    domain::{
        jitter,
        store::{Circuit, FailureKind, StoreError},
    },
    instruments::counts::{Counter, Counts},
};

/// Over how much time calls are counted.
const SAMPLE_WINDOW: Duration = Duration::from_secs(5);
/// With fewer calls than this in the window, nothing can be concluded.
const MIN_SAMPLES: usize = 20;
/// The shortest wait between two probes; the longest is twice that. Drawn at random, so that replicas spread out.
const MIN_PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// The same after a write that got no answer: its server may still be at it, and gives up a transaction of its own after 5 s
/// (sqld 0.24, `TXN_TIMEOUT`).
const MIN_PROBE_INTERVAL_AFTER_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether the calls of one circuit are let through.
#[derive(Debug)]
pub(super) struct CircuitState {
    circuit: Circuit,
    open: AtomicBool,
    /// When the next call is let through, in milliseconds of the monotonic clock; only while open.
    next_probe: AtomicU64,
    window: Mutex<SampleWindow>,
    opened: Counter,
    /// Calls not let through, in the one slot. Open, it may be asked at the rate of the traffic.
    refused: Counts,
}

#[derive(Debug, Default)]
struct SampleWindow {
    /// When each call of the window ended, and whether the database failed it.
    samples: VecDeque<(Duration, bool)>,
    failures: usize,
}

impl CircuitState {
    pub(super) fn new(circuit: Circuit) -> Self {
        Self {
            circuit,
            open: AtomicBool::new(false),
            next_probe: AtomicU64::new(0),
            window: Mutex::default(),
            opened: Counter::default(),
            refused: Counts::new(1),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn open_count(&self) -> u64 {
        self.opened.get()
    }

    pub(super) fn refused_count(&self) -> u64 {
        self.refused.get(0)
    }

    /// Whether a call would be let through as a probe.
    pub(super) fn is_probe_due(&self, now: Duration) -> bool {
        self.is_open() && millis(now) >= self.next_probe.load(Ordering::Relaxed)
    }

    /// Lets the next call through, if the circuit is open.
    pub(super) fn probe_now(&self) {
        self.next_probe.store(0, Ordering::Relaxed);
    }

    pub(super) fn admit(&self, now: Duration) -> Result<(), StoreError> {
        if !self.is_open() {
            return Ok(());
        }
        let due = self.next_probe.load(Ordering::Relaxed);
        let next = millis(now + probe_delay(MIN_PROBE_INTERVAL));
        // Of several that come at once, one is the probe.
        let is_probe = millis(now) >= due
            && self.next_probe.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_probe {
            return Ok(());
        }
        self.refused.add(0, 1);
        let message = match self.circuit {
            Circuit::Writes => "the database has not taken any change lately",
            _ => "the database has not answered lately",
        };
        let mut error = StoreError::new(FailureKind::CircuitOpen, message);
        error.retry_after = Some(MIN_PROBE_INTERVAL * 2);
        Err(error)
    }

    /// Takes in that a call of this circuit was answered (`None`), or how it failed.
    pub(super) fn record(&self, failure: Option<FailureKind>, now: Duration) {
        let mut window = self.window();
        // One that got no answer was waited for longer than the window: nothing else has to be seen.
        let went_unanswered = self.circuit == Circuit::Writes && failure == Some(FailureKind::TimedOut);
        let probe = if went_unanswered { MIN_PROBE_INTERVAL_AFTER_TIMEOUT } else { MIN_PROBE_INTERVAL };
        if self.is_open() {
            if failure.is_none() {
                *window = SampleWindow::default();
                self.open.store(false, Ordering::Relaxed);
                tracing::info!(circuit = self.circuit.as_str(), "the database answers these calls again");
            } else if went_unanswered {
                self.next_probe.store(millis(now + probe_delay(probe)), Ordering::Relaxed);
            }
            return;
        }
        window.push(now, failure.is_some());
        // Never on a success, though it may complete the number: the database has just answered.
        if failure.is_some() && (went_unanswered || window.is_failing()) {
            self.next_probe.store(millis(now + probe_delay(probe)), Ordering::Relaxed);
            self.open.store(true, Ordering::Relaxed);
            self.opened.increment();
            tracing::error!(
                circuit = self.circuit.as_str(),
                calls = window.samples.len(),
                failures = window.failures,
                "the database refuses or does not answer these calls: one is sent now and then until it does"
            );
        }
    }

    /// Takes in that a call got no answer in time, and that this process was late itself. While others of the window were
    /// answered, it says nothing.
    pub(super) fn record_starved(&self, now: Duration) {
        if !self.window().has_success(now) {
            self.record(Some(FailureKind::Starved), now);
        }
    }

    fn window(&self) -> MutexGuard<'_, SampleWindow> {
        // Every change is made of steps that leave it usable.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SampleWindow {
    fn push(&mut self, now: Duration, failed: bool) {
        self.samples.push_back((now, failed));
        self.failures += usize::from(failed);
        self.drop_expired(now);
    }

    fn has_success(&mut self, now: Duration) -> bool {
        self.drop_expired(now);
        self.samples.len() > self.failures
    }

    fn drop_expired(&mut self, now: Duration) {
        while let Some(&(at, failed)) = self.samples.front()
            && now.saturating_sub(at) > SAMPLE_WINDOW
        {
            self.samples.pop_front();
            self.failures -= usize::from(failed);
        }
    }

    fn is_failing(&self) -> bool {
        self.samples.len() >= MIN_SAMPLES && self.failures * 2 >= self.samples.len()
    }
}

fn probe_delay(probe: Duration) -> Duration {
    // Without randomness everybody waits the longest.
    let chance = jitter::random_fraction(1.0);
    probe.mul_f64(1.0 + chance)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
