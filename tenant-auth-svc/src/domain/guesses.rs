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
pub struct Asker(Option<Arc<str>>);

impl Asker {
    /// A caller, by its name or address.
    #[must_use]
    pub fn caller(name: Arc<str>) -> Self {
        Self(Some(name))
    }

    /// This service itself: it makes no guesses, and is not bounded.
    pub const OURSELVES: Self = Self(None);
}

/// On whose behalf something is asked, and until when it is waited for.
#[derive(Clone, Debug)]
pub struct OnBehalf {
    /// Whose guess it is if there is no such thing.
    pub asker: Asker,
    /// When nobody waits any longer.
    pub deadline: Instant,
}

/// Of this service itself.
impl From<Instant> for OnBehalf {
    fn from(deadline: Instant) -> Self {
        Self { asker: Asker::OURSELVES, deadline }
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
pub enum GuessBound {
    /// That of its caller.
    Caller,
    /// That of the process.
    Process,
}

impl GuessBound {
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
pub struct Guesses {
    limits: GuessLimits,
    clock: SharedClock,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    total: Bucket,
    callers: HashMap<Arc<str>, Bucket>,
    refused: [u64; GuessBound::ALL.len()],
}

/// What one may use up, in thousandths of a guess, as of a moment.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: u64,
    at: Duration,
}

impl Bucket {
    fn full(rate: u32, now: Duration) -> Self {
        Self { left: capacity(rate), at: now }
    }

    /// As of a moment: a thousandth comes back each millisecond for each guess in a second.
    fn as_of(self, rate: u32, now: Duration) -> Self {
        let millis = u64::try_from(now.saturating_sub(self.at).as_millis()).unwrap_or(u64::MAX);
        let left = self.left.saturating_add(millis.saturating_mul(rate.into())).min(capacity(rate));
        // What is less than a millisecond is counted the next time.
        Self { left, at: if millis == 0 { self.at } else { now } }
    }
}

const WHOLE: u64 = 1_000;

fn capacity(rate: u32) -> u64 {
    u64::from(rate) * u64::from(BURST_SECONDS) * WHOLE
}

impl Guesses {
    /// As many as the limits allow.
    pub fn new(limits: GuessLimits, clock: SharedClock) -> Self {
        let total = Bucket::full(limits.total, clock.monotonic());
        let state = State { total, callers: HashMap::new(), refused: Default::default() };
        Self { limits, clock, state: Mutex::new(state) }
    }

    /// Reserves up to so many guesses for a caller: as many as it may make.
    pub fn reserve(self: &Arc<Self>, asker: &Asker, wanted: usize) -> GuessPermit {
        let Asker(Some(caller)) = asker else {
            return GuessPermit { guesses: None, granted: wanted, reserved: 0 };
        };
        let now = self.clock.monotonic();
        let mut state = self.state();
        let state = &mut *state;
        state.total = state.total.as_of(self.limits.total, now);
        let whole = |bucket: &Bucket| usize::try_from(bucket.left / WHOLE).unwrap_or(usize::MAX);
        let mut own = self.bucket(&mut state.callers, caller, now);
        let by_caller = own.as_deref().map_or(wanted, |own| wanted.min(whole(own)));
        let granted = by_caller.min(whole(&state.total));
        let cost = granted as u64 * WHOLE;
        state.total.left -= cost;
        if let Some(own) = &mut own {
            own.left -= cost;
        }
        state.refused[GuessBound::Caller as usize] += (wanted - by_caller) as u64;
        state.refused[GuessBound::Process as usize] += (by_caller - granted) as u64;
        let guesses = Some((Arc::clone(self), Arc::clone(caller)));
        GuessPermit { guesses, granted, reserved: granted }
    }

    /// That of a caller, as of now; `None` for one too many.
    fn bucket<'a>(
        &self,
        callers: &'a mut HashMap<Arc<str>, Bucket>,
        caller: &Arc<str>,
        now: Duration,
    ) -> Option<&'a mut Bucket> {
        let rate = self.limits.per_caller;
        if callers.len() >= MAX_CALLERS && !callers.contains_key(caller) {
            // Who has made none lately is as good as new.
            callers.retain(|_, bucket| bucket.as_of(rate, now).left < capacity(rate));
            if callers.len() >= MAX_CALLERS {
                return None;
            }
        }
        let bucket = callers.entry(Arc::clone(caller)).or_insert_with(|| Bucket::full(rate, now));
        *bucket = bucket.as_of(rate, now);
        Some(bucket)
    }

    fn give_back(&self, caller: &Arc<str>, count: usize) {
        let back = count as u64 * WHOLE;
        let mut state = self.state();
        state.total.left = (state.total.left + back).min(capacity(self.limits.total));
        if let Some(own) = state.callers.get_mut(caller) {
            own.left = (own.left + back).min(capacity(self.limits.per_caller));
        }
    }

    /// How many were refused for a bound.
    pub fn refused(&self, bound: GuessBound) -> u64 {
        self.state().refused[bound as usize]
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is made of steps that leave it usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Guesses that are under way. What was not wrong is given back with it.
#[derive(Debug)]
pub struct GuessPermit {
    guesses: Option<(Arc<Guesses>, Arc<str>)>,
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
    pub fn were_wrong(&mut self, count: usize) {
        self.reserved = self.reserved.saturating_sub(count);
    }
}

impl Drop for GuessPermit {
    fn drop(&mut self) {
        if let Some((guesses, caller)) = self.guesses.take() {
            guesses.give_back(&caller, self.reserved);
        }
    }
}

/// Why one that was not granted is not looked up.
#[must_use]
pub fn too_many() -> StoreError {
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

    fn setup() -> (Arc<ManualClock>, Arc<Guesses>) {
        let clock = ManualClock::at(UnixMillis(0));
        let guesses = Guesses::new(LIMITS, Arc::clone(&clock) as SharedClock);
        (clock, Arc::new(guesses))
    }

    fn asker(name: &str) -> Asker {
        Asker::caller(name.into())
    }

    /// Makes as many as are granted, all of them wrong.
    fn guess(guesses: &Arc<Guesses>, by: &str, wanted: usize) -> usize {
        let mut permit = guesses.reserve(&asker(by), wanted);
        permit.were_wrong(permit.granted());
        permit.granted()
    }

    #[test]
    fn one_caller_uses_up_its_own_and_then_has_its_rate() {
        let (clock, guesses) = setup();
        assert_eq!(guess(&guesses, "a", 60), 60);
        assert_eq!(guess(&guesses, "a", 60), 40, "ten seconds' worth at once");
        assert_eq!(guess(&guesses, "b", 30), 30, "another one has its own");
        assert_eq!(guesses.refused(GuessBound::Caller), 20);
        for _ in 0..10 {
            clock.advance(Duration::from_secs(1));
            assert_eq!(guess(&guesses, "a", 100), 10);
        }
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(guess(&guesses, "a", 1_000), 100, "and no more than that after an hour");
    }

    #[test]
    fn all_together_have_a_bound_too() {
        let (_, guesses) = setup();
        assert_eq!(guess(&guesses, "a", 100), 100);
        assert_eq!(guess(&guesses, "b", 100), 50);
        assert_eq!((guesses.refused(GuessBound::Caller), guesses.refused(GuessBound::Process)), (0, 50));
        assert_eq!(guesses.reserve(&Asker::OURSELVES, 1_000).granted(), 1_000);
    }

    #[test]
    fn what_was_no_guess_is_given_back() {
        let (_, guesses) = setup();
        for _ in 0..100 {
            let mut permit = guesses.reserve(&asker("a"), 100);
            assert_eq!(permit.granted(), 100);
            assert_eq!(guesses.reserve(&asker("a"), 1).granted(), 0, "no more under way than may be wrong");
            permit.were_wrong(0);
        }
        let mut permit = guesses.reserve(&asker("a"), 100);
        permit.were_wrong(70);
        drop(permit);
        assert_eq!(guess(&guesses, "a", 100), 30);
    }

    #[test]
    fn callers_without_end_take_no_memory_and_are_bounded_together() {
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
