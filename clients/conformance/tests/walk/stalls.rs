//! Whether the machine stood still: then a call that took over a second says nothing about a client.

use std::{
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Between two looks at the clock.
const TURN: Duration = Duration::from_millis(10);
/// A thread that wakes so much later than it wanted to had no processor, and others had none either.
const STALL: Duration = Duration::from_millis(100);

static STALLS: Mutex<Vec<(Instant, Duration)>> = Mutex::new(Vec::new());

/// Looks from now on, until the program ends.
pub(crate) fn watch() {
    thread::spawn(|| {
        loop {
            let due = Instant::now() + TURN;
            thread::sleep(TURN);
            let late = due.elapsed();
            if late > STALL {
                STALLS.lock().unwrap_or_else(PoisonError::into_inner).push((due, late));
            }
        }
    });
}

/// The longest since then, if there was any.
pub(crate) fn since(moment: Instant) -> Option<Duration> {
    let stalls = STALLS.lock().unwrap_or_else(PoisonError::into_inner);
    stalls.iter().filter(|(at, late)| *at + *late >= moment).map(|(_, late)| *late).max()
}
