//! What a local limiter holds for one key.

#[cfg(test)]
mod tests;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Mutex as AsyncMutex;

use crate::{Denied, clock::Moment};

/// A chunk is about as much as is admitted in this time.
const CHUNK_TIME: Duration = Duration::from_secs(2);
/// The largest chunk.
const MAX_CHUNK: i64 = 1_000;
/// The rate is measured over this time at least.
const MIN_MEASURED: Duration = Duration::from_millis(100);
/// A denial is repeated for this long at most, without a call.
const MAX_DENIAL_TIME: Duration = Duration::from_secs(1);

/// A reserved amount, from which requests are admitted.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) reservation_id: String,
    pub(super) size: i64,
    pub(super) used: i64,
    /// Nothing is admitted from then on, so that it can be settled before it expires.
    pub(super) retires_at: Moment,
}

/// What is held for one key.
#[derive(Debug)]
pub(super) struct Lease {
    state: Mutex<LeaseState>,
    /// Held by the one who fetches a chunk.
    pub(super) fetching: AsyncMutex<()>,
}

#[derive(Debug)]
struct LeaseState {
    current: Option<Chunk>,
    next: Option<Chunk>,
    /// To be settled.
    retired: Vec<Chunk>,
    is_prefetching: bool,
    chunk_size: i64,
    /// What was admitted since the last chunk was fetched.
    admitted: i64,
    measured_from: Moment,
    denial: Option<Denial>,
    is_closed: bool,
}

/// The last denial by limits.
#[derive(Debug)]
struct Denial {
    denied: Denied,
    amount: i64,
    until: Moment,
}

/// The outcome of taking an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Nothing is taken: a chunk must be fetched.
    Nothing,
    /// It is taken.
    Amount,
    /// It is taken, and the caller must fetch the next chunk ahead.
    AmountAndLow,
}

impl Lease {
    pub(super) fn new(now: Moment) -> Self {
        let state = LeaseState {
            current: None,
            next: None,
            retired: Vec::new(),
            is_prefetching: false,
            chunk_size: 1,
            admitted: 0,
            measured_from: now,
            denial: None,
            is_closed: false,
        };
        Self { state: Mutex::new(state), fetching: AsyncMutex::default() }
    }

    /// Takes an amount from a chunk, if one has that much left.
    pub(super) fn take(&self, amount: i64, now: Moment) -> Taken {
        let mut state = self.lock();
        if !state.prepare(amount, now) {
            return Taken::Nothing;
        }
        let Some(chunk) = &mut state.current else { return Taken::Nothing };
        chunk.used += amount;
        let is_low = chunk.size - chunk.used < chunk.size / 2;
        let is_spent = chunk.used == chunk.size;
        state.admitted = state.admitted.saturating_add(amount);
        if is_spent {
            state.retire_current();
        }
        // A key that is used rarely needs nothing ahead.
        if is_low && state.next.is_none() && state.chunk_size > 1 && !state.is_prefetching {
            state.is_prefetching = true;
            return Taken::AmountAndLow;
        }
        Taken::Amount
    }

    /// Returns whether an amount could be taken.
    pub(super) fn has(&self, amount: i64, now: Moment) -> bool {
        self.lock().prepare(amount, now)
    }

    pub(super) fn end_prefetch(&self) {
        self.lock().is_prefetching = false;
    }

    /// Returns the size of the next chunk: it follows the rate of what was admitted, by a factor of two at most.
    pub(super) fn next_size(&self, amount: i64, now: Moment) -> i64 {
        let mut state = self.lock();
        let measured = now.since(state.measured_from).max(MIN_MEASURED);
        let wanted =
            (state.admitted as f64 * CHUNK_TIME.as_secs_f64() / measured.as_secs_f64()).ceil() as i64;
        let size = wanted.clamp(state.chunk_size / 2, state.chunk_size * 2).clamp(1, MAX_CHUNK);
        (state.chunk_size, state.admitted, state.measured_from) = (size, 0, now);
        size.max(amount)
    }

    /// Halves the size of chunks after a refusal, and returns it: at least the amount that is needed.
    pub(super) fn halve(&self, size: i64, amount: i64) -> i64 {
        let half = (size / 2).max(1);
        self.lock().chunk_size = half.min(MAX_CHUNK);
        half.max(amount)
    }

    /// Adds a chunk. After the limiter was closed, it is only there to be settled.
    pub(super) fn add(&self, chunk: Chunk) {
        let mut state = self.lock();
        state.denial = None;
        if state.is_closed {
            state.retired.push(chunk);
        } else if state.current.is_none() {
            state.current = Some(chunk);
        } else {
            let replaced = state.next.replace(chunk);
            state.retired.extend(replaced);
        }
    }

    /// Remembers a denial of an amount by limits, until a retry can succeed.
    pub(super) fn remember(&self, denied: &Denied, amount: i64, now: Moment) {
        let time = denied.limits().retry_after().unwrap_or(MAX_DENIAL_TIME).min(MAX_DENIAL_TIME);
        self.lock().denial = Some(Denial { denied: denied.clone(), amount, until: now.after(time) });
    }

    /// Returns the last denial of no larger an amount, while no retry can succeed.
    pub(super) fn remembered(&self, amount: i64, now: Moment) -> Option<Denied> {
        let state = self.lock();
        let denial = state.denial.as_ref().filter(|denial| amount >= denial.amount && now < denial.until)?;
        Some(denial.denied.clone())
    }

    /// Returns the chunks to settle: those that are spent or may be used no longer. `None` if nothing is held at all.
    pub(super) fn take_retired(&self, now: Moment) -> Option<Vec<Chunk>> {
        let mut state = self.lock();
        state.prepare(0, now);
        let LeaseState { current, next, retired, .. } = &mut *state;
        retired.extend(next.take_if(|chunk| now >= chunk.retires_at));
        let is_idle = current.is_none() && next.is_none() && retired.is_empty();
        (!is_idle).then(|| std::mem::take(retired))
    }

    /// Ends the lease, and returns all its chunks to settle.
    pub(super) fn close(&self) -> Vec<Chunk> {
        let mut state = self.lock();
        state.is_closed = true;
        let LeaseState { current, next, retired, .. } = &mut *state;
        retired.extend(current.take());
        retired.extend(next.take());
        std::mem::take(retired)
    }

    fn lock(&self) -> MutexGuard<'_, LeaseState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LeaseState {
    /// Makes the chunk current that an amount can be taken from, and returns whether there is one.
    fn prepare(&mut self, amount: i64, now: Moment) -> bool {
        let has = |chunk: &Chunk| now < chunk.retires_at && chunk.size - chunk.used >= amount;
        if self.current.as_ref().is_some_and(has) {
            return true;
        }
        if self.next.as_ref().is_some_and(has) {
            self.retire_current();
            self.current = self.next.take();
            return true;
        }
        if self.current.as_ref().is_some_and(|chunk| now >= chunk.retires_at) {
            self.retire_current();
        }
        false
    }

    fn retire_current(&mut self) {
        self.retired.extend(self.current.take());
    }
}
