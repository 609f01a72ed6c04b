//! How much may be asked about that nobody has seen.
//!
//! A key or session that is not in memory is looked up, and most of what is looked up in a flood is not there: each was a
//! guess. Guesses have a rate, for each caller and in all. One is reserved when its lookup begins, and given back when it ends
//! unless nothing was found: so the first lookups of good keys cost nothing, however many there are after a start, and no more
//! can be under way than may be wrong.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    clock::SharedClock,
    store::{FailureKind, StoreError},
};

/// For how many seconds a caller that has made none may make them at once: more than come together after a start.
const BURST_SECONDS: u32 = 10;
/// The most callers that are told apart; beyond them, only all together are bounded.
const MAX_CALLERS: usize = 1_000;
/// When to ask again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// On whose behalf something is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuessOrigin(Option<Arc<str>>);

impl GuessOrigin {
    /// A caller, by its name or address.
    #[must_use]
    pub fn caller(name: Arc<str>) -> Self {
        Self(Some(name))
    }

    /// This service itself: it makes no guesses, and is not bounded.
    pub const INTERNAL: Self = Self(None);
}

/// On whose behalf something is asked, and until when it is waited for.
#[derive(Clone, Debug)]
pub struct LoadContext {
    /// Whose guess it is if there is no such thing.
    pub origin: GuessOrigin,
    /// When nobody waits any longer.
    pub deadline: Instant,
}

/// Of this service itself.
impl From<Instant> for LoadContext {
    fn from(deadline: Instant) -> Self {
        Self { origin: GuessOrigin::INTERNAL, deadline }
    }
}

/// How many guesses there may be in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuessLimits {
    /// By one caller.
    pub per_caller: u32,
    /// In this process.
    pub total: u32,
}

/// Which bound a guess was beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuessLimitScope {
    /// That of its caller.
    Caller,
    /// That of the process.
    Process,
}

impl GuessLimitScope {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Caller, Self::Process];

    /// As metrics write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Process => "process",
        }
    }
}

/// The guesses that may be made.
#[derive(Debug)]
pub struct GuessLimiter {
    limits: GuessLimits,
    clock: SharedClock,
    state: Mutex<GuessLimiterState>,
}

#[derive(Debug)]
struct GuessLimiterState {
    total: TokenBucket,
    callers: HashMap<Arc<str>, TokenBucket>,
    refused: [u64; GuessLimitScope::ALL.len()],
}

/// What one may use up, in thousandths of a guess, as of a moment.
#[derive(Clone, Copy, Debug)]
struct TokenBucket {
    millitokens: u64,
    updated_at: Duration,
}

impl TokenBucket {
    fn full(rate: u32, now: Duration) -> Self {
        Self { millitokens: capacity(rate), updated_at: now }
    }

    /// As of a moment: a thousandth comes back each millisecond for each guess in a second.
    fn refilled_at(self, rate: u32, now: Duration) -> Self {
        let millis = u64::try_from(now.saturating_sub(self.updated_at).as_millis()).unwrap_or(u64::MAX);
        let left = self.millitokens.saturating_add(millis.saturating_mul(rate.into())).min(capacity(rate));
        // What is less than a millisecond is counted the next time.
        Self { millitokens: left, updated_at: if millis == 0 { self.updated_at } else { now } }
    }
}

const MILLITOKENS_PER_GUESS: u64 = 1_000;

fn capacity(rate: u32) -> u64 {
    u64::from(rate) * u64::from(BURST_SECONDS) * MILLITOKENS_PER_GUESS
}

impl GuessLimiter {
    /// As many as the limits allow.
    pub fn new(limits: GuessLimits, clock: SharedClock) -> Self {
        let total = TokenBucket::full(limits.total, clock.monotonic());
        let state = GuessLimiterState { total, callers: HashMap::new(), refused: Default::default() };
        Self { limits, clock, state: Mutex::new(state) }
    }

    /// Reserves up to so many guesses for a caller: as many as it may make.
    pub fn reserve(self: &Arc<Self>, asker: &GuessOrigin, wanted: usize) -> GuessPermit {
        let GuessOrigin(Some(caller)) = asker else {
            return GuessPermit { limiter: None, granted: wanted, reserved: 0 };
        };
        let now = self.clock.monotonic();
        let mut state = self.state();
        let state = &mut *state;
        state.total = state.total.refilled_at(self.limits.total, now);
        let whole = |bucket: &TokenBucket| {
            usize::try_from(bucket.millitokens / MILLITOKENS_PER_GUESS).unwrap_or(usize::MAX)
        };
        let mut own = self.caller_bucket(&mut state.callers, caller, now);
        let by_caller = own.as_deref().map_or(wanted, |own| wanted.min(whole(own)));
        let granted = by_caller.min(whole(&state.total));
        let cost = granted as u64 * MILLITOKENS_PER_GUESS;
        state.total.millitokens -= cost;
        if let Some(own) = &mut own {
            own.millitokens -= cost;
        }
        state.refused[GuessLimitScope::Caller as usize] += (wanted - by_caller) as u64;
        state.refused[GuessLimitScope::Process as usize] += (by_caller - granted) as u64;
        let guesses = Some((Arc::clone(self), Arc::clone(caller)));
        GuessPermit { limiter: guesses, granted, reserved: granted }
    }

    /// That of a caller, as of now; `None` for one too many.
    fn caller_bucket<'a>(
        &self,
        callers: &'a mut HashMap<Arc<str>, TokenBucket>,
        caller: &Arc<str>,
        now: Duration,
    ) -> Option<&'a mut TokenBucket> {
        let rate = self.limits.per_caller;
        if callers.len() >= MAX_CALLERS && !callers.contains_key(caller) {
            // Who has made none lately is as good as new.
            callers.retain(|_, bucket| bucket.refilled_at(rate, now).millitokens < capacity(rate));
            if callers.len() >= MAX_CALLERS {
                return None;
            }
        }
        let bucket = callers.entry(Arc::clone(caller)).or_insert_with(|| TokenBucket::full(rate, now));
        *bucket = bucket.refilled_at(rate, now);
        Some(bucket)
    }

    fn refund(&self, caller: &Arc<str>, count: usize) {
        let back = count as u64 * MILLITOKENS_PER_GUESS;
        let mut state = self.state();
        state.total.millitokens = (state.total.millitokens + back).min(capacity(self.limits.total));
        if let Some(own) = state.callers.get_mut(caller) {
            own.millitokens = (own.millitokens + back).min(capacity(self.limits.per_caller));
        }
    }

    /// How many were refused for a bound.
    pub fn refused(&self, bound: GuessLimitScope) -> u64 {
        self.state().refused[bound as usize]
    }

    fn state(&self) -> MutexGuard<'_, GuessLimiterState> {
        // Every change is made of steps that leave it usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Guesses that are under way. What was not wrong is given back with it.
#[derive(Debug)]
pub struct GuessPermit {
    limiter: Option<(Arc<GuessLimiter>, Arc<str>)>,
    granted: usize,
    reserved: usize,
}

impl GuessPermit {
    /// How many were granted.
    #[must_use]
    pub fn granted(&self) -> usize {
        self.granted
    }

    /// Some of them were wrong.
    pub fn record_misses(&mut self, count: usize) {
        self.reserved = self.reserved.saturating_sub(count);
    }
}

impl Drop for GuessPermit {
    fn drop(&mut self) {
        if let Some((guesses, caller)) = self.limiter.take() {
            guesses.refund(&caller, self.reserved);
        }
    }
}

/// Why one that was not granted is not looked up.
#[must_use]
pub fn too_many_guesses_error() -> StoreError {
    let message = "too many keys or sessions were asked for that nobody has seen";
    let mut error = StoreError::new(FailureKind::TooManyGuesses, message);
    error.retry_after = Some(RETRY_AFTER);
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::{ManualClock, UnixMillis};

    const LIMITS: GuessLimits = GuessLimits { per_caller: 10, total: 15 };

    fn setup() -> (Arc<ManualClock>, Arc<GuessLimiter>) {
        let clock = ManualClock::at(UnixMillis(0));
        let guesses = GuessLimiter::new(LIMITS, Arc::clone(&clock) as SharedClock);
        (clock, Arc::new(guesses))
    }

    fn asker(name: &str) -> GuessOrigin {
        GuessOrigin::caller(name.into())
    }

    /// Makes as many as are granted, all of them wrong.
    fn guess(guesses: &Arc<GuessLimiter>, by: &str, wanted: usize) -> usize {
        let mut permit = guesses.reserve(&asker(by), wanted);
        permit.record_misses(permit.granted());
        permit.granted()
    }

    #[test]
    fn caller_spends_its_burst_then_its_rate() {
        let (clock, guesses) = setup();
        assert_eq!(guess(&guesses, "a", 60), 60);
        assert_eq!(guess(&guesses, "a", 60), 40, "ten seconds' worth at once");
        assert_eq!(guess(&guesses, "b", 30), 30, "another one has its own");
        assert_eq!(guesses.refused(GuessLimitScope::Caller), 20);
        for _ in 0..10 {
            clock.advance(Duration::from_secs(1));
            assert_eq!(guess(&guesses, "a", 100), 10);
        }
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(guess(&guesses, "a", 1_000), 100, "and no more than that after an hour");
    }

    #[test]
    fn process_limit_applies_to_all_callers_together() {
        let (_, guesses) = setup();
        assert_eq!(guess(&guesses, "a", 100), 100);
        assert_eq!(guess(&guesses, "b", 100), 50);
        assert_eq!(
            (guesses.refused(GuessLimitScope::Caller), guesses.refused(GuessLimitScope::Process)),
            (0, 50)
        );
        assert_eq!(guesses.reserve(&GuessOrigin::INTERNAL, 1_000).granted(), 1_000);
    }

    #[test]
    fn correct_guesses_are_refunded() {
        let (_, guesses) = setup();
        for _ in 0..100 {
            let mut permit = guesses.reserve(&asker("a"), 100);
            assert_eq!(permit.granted(), 100);
            assert_eq!(guesses.reserve(&asker("a"), 1).granted(), 0, "no more under way than may be wrong");
            permit.record_misses(0);
        }
        let mut permit = guesses.reserve(&asker("a"), 100);
        permit.record_misses(70);
        drop(permit);
        assert_eq!(guess(&guesses, "a", 100), 30);
    }

    #[test]
    fn tracked_callers_are_bounded() {
        let (clock, guesses) = setup();
        for caller in 0..MAX_CALLERS * 2 {
            guess(&guesses, &caller.to_string(), 1);
            assert!(guesses.state().callers.len() <= MAX_CALLERS);
        }
        clock.advance(Duration::from_secs(60));
        assert_eq!(guess(&guesses, "new", 1_000), 100);
        let kept = guesses.state().callers.len();
        assert!(kept <= MAX_CALLERS, "{kept}");
    }
}
