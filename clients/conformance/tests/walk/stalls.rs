//! Whether the machine had no time: then a call that took over a second says nothing about a client.

use std::{
    fs,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Between two looks at the clock.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);
/// A thread that wakes so much later than it wanted to had no processor, and others had none either.
const MIN_STALL: Duration = Duration::from_millis(100);

/// Processes that want to run, for each processor: then a call gets a fraction of one.
const MAX_LOAD_PER_CPU: f64 = 3.0;

static STALLS: Mutex<Vec<(Instant, Duration)>> = Mutex::new(Vec::new());

/// Looks from now on, until the program ends.
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

/// Why calls may have waited for a processor since then: a stall, or more work than the machine has processors for.
pub(crate) fn reason_since(moment: Instant) -> Option<String> {
    let stalls = STALLS.lock().unwrap_or_else(PoisonError::into_inner);
    let longest = stalls.iter().filter(|(at, late)| *at + *late >= moment).map(|(_, late)| *late).max();
    longest
        .map(|stall| format!("the machine stood still for {} ms", stall.as_millis()))
        .or_else(overload_reason)
}

/// By the average of the last minute; where the system tells none, it is not known to be.
fn overload_reason() -> Option<String> {
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    let load: f64 = load.split(' ').next()?.parse().ok()?;
    let processors = thread::available_parallelism().ok()?.get();
    (load > MAX_LOAD_PER_CPU * processors as f64)
        .then(|| format!("{processors} processors had a load of {load}"))
}
