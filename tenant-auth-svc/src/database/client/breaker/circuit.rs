//! One circuit: a group of calls whose outcomes predict each other, and whether they are admitted.

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

/// The period over which calls are counted.
const SAMPLE_WINDOW: Duration = Duration::from_secs(5);
/// With fewer calls than this in the window, the circuit does not open.
const MIN_SAMPLES: usize = 20;
/// Minimum delay between two probes; the maximum is twice that. Randomized, so that replicas spread out.
const MIN_PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// The same after a write that timed out: its server may still be working on it, and aborts its own transaction after
/// 5 s (sqld 0.24, `TXN_TIMEOUT`).
const MIN_PROBE_INTERVAL_AFTER_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether the calls of one circuit are admitted.
#[derive(Debug)]
pub(super) struct CircuitState {
    circuit: Circuit,
    open: AtomicBool,
    /// When the next probe is admitted, in milliseconds of the monotonic clock; only while open.
    next_probe: AtomicU64,
    window: Mutex<SampleWindow>,
    opened: Counter,
    /// Rejected calls, in the only slot. An open circuit may be called at the rate of the traffic.
    refused: Counts,
}

#[derive(Debug, Default)]
struct SampleWindow {
    /// When each call of the window ended, and whether it failed.
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

    /// Whether a call would be admitted as a probe.
    pub(super) fn is_probe_due(&self, now: Duration) -> bool {
        self.is_open() && millis(now) >= self.next_probe.load(Ordering::Relaxed)
    }

    /// Admits the next call, if the circuit is open.
    pub(super) fn probe_now(&self) {
        self.next_probe.store(0, Ordering::Relaxed);
    }

    pub(super) fn admit(&self, now: Duration) -> Result<(), StoreError> {
        if !self.is_open() {
            return Ok(());
        }
        let due = self.next_probe.load(Ordering::Relaxed);
        let next = millis(now + probe_delay(MIN_PROBE_INTERVAL));
        // Of several concurrent calls, one is the probe.
        let is_probe = millis(now) >= due
            && self.next_probe.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_probe {
            return Ok(());
        }
        self.refused.add(0, 1);
        let message = match self.circuit {
            Circuit::Writes => "circuit open: the database has not accepted writes recently",
            _ => "circuit open: the database has not responded recently",
        };
        let mut error = StoreError::new(FailureKind::CircuitOpen, message);
        error.retry_after = Some(MIN_PROBE_INTERVAL * 2);
        Err(error)
    }

    /// Records that a call of this circuit was answered (`None`), or how it failed.
    pub(super) fn record(&self, failure: Option<FailureKind>, now: Duration) {
        let mut window = self.window();
        // A write that timed out was waited for longer than the window: no further sample is needed.
        let timed_out_write = self.circuit == Circuit::Writes && failure == Some(FailureKind::TimedOut);
        let probe_interval =
            if timed_out_write { MIN_PROBE_INTERVAL_AFTER_TIMEOUT } else { MIN_PROBE_INTERVAL };
        if self.is_open() {
            if failure.is_none() {
                *window = SampleWindow::default();
                self.open.store(false, Ordering::Relaxed);
                tracing::info!(
                    circuit = self.circuit.as_str(),
                    "circuit closed: the database responds to these calls again"
                );
            } else if timed_out_write {
                self.next_probe.store(millis(now + probe_delay(probe_interval)), Ordering::Relaxed);
            }
            return;
        }
        window.push(now, failure.is_some());
        // Never on a success, even if it completes the minimum number: the database has just responded.
        if failure.is_some() && (timed_out_write || window.is_failing()) {
            self.next_probe.store(millis(now + probe_delay(probe_interval)), Ordering::Relaxed);
            self.open.store(true, Ordering::Relaxed);
            self.opened.increment();
            tracing::error!(
                circuit = self.circuit.as_str(),
                calls = window.samples.len(),
                failures = window.failures,
                "circuit opened: the database rejects or does not answer these calls; they are rejected, except for periodic probes"
            );
        }
    }

    /// Records that a call timed out while this process was lagging. While other calls of the window succeeded, it
    /// says nothing about the database.
    pub(super) fn record_starved(&self, now: Duration) {
        if !self.window().has_success(now) {
            self.record(Some(FailureKind::Starved), now);
        }
    }

    fn window(&self) -> MutexGuard<'_, SampleWindow> {
        // Each modification leaves the value consistent, so a poisoned lock is usable.
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

fn probe_delay(interval: Duration) -> Duration {
    // Randomized, because otherwise all replicas would probe at the same time.
    let fraction = jitter::random_fraction(1.0);
    interval.mul_f64(1.0 + fraction)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
