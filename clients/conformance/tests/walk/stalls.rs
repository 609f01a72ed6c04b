//! Detects whether the machine was overloaded: then a call that took over a second says nothing about a
//! client.

use std::{
    fs,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Interval between two checks of the clock.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);
/// A thread that wakes this much later than scheduled got no processor, and neither did others.
const MIN_STALL: Duration = Duration::from_millis(100);

/// Runnable processes per processor above which a call gets only a fraction of one.
const MAX_LOAD_PER_CPU: f64 = 3.0;

static STALLS: Mutex<Vec<(Instant, Duration)>> = Mutex::new(Vec::new());

/// Starts checking, until the program ends.
pub(crate) fn start_watching() {
    thread::spawn(|| {
        loop {
            let due = Instant::now() + CHECK_INTERVAL;
            thread::sleep(CHECK_INTERVAL);
            let late = due.elapsed();
            if late > MIN_STALL {
                STALLS.lock().unwrap_or_else(PoisonError::into_inner).push((due, late));
            }
        }
    });
}

/// Returns why calls may have waited for a processor since a time: a stall, or a load beyond the machine's
/// processors.
pub(crate) fn reason_since(since: Instant) -> Option<String> {
    let stalls = STALLS.lock().unwrap_or_else(PoisonError::into_inner);
    let longest = stalls.iter().filter(|(at, late)| *at + *late >= since).map(|(_, late)| *late).max();
    longest.map(|stall| format!("the machine stalled for {} ms", stall.as_millis())).or_else(overload_reason)
}

/// Uses the load average of the last minute. If the system does not report one, returns `None`.
fn overload_reason() -> Option<String> {
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    let load: f64 = load.split(' ').next()?.parse().ok()?;
    let processors = thread::available_parallelism().ok()?.get();
    (load > MAX_LOAD_PER_CPU * processors as f64)
        .then(|| format!("{processors} processors had a load of {load}"))
}
