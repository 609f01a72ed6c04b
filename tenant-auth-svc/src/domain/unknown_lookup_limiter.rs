//! Limits lookups of unknown keys and sessions.
//!
//! An id that is not cached is looked up. In a flood of invented ids most lookups find nothing; each such
//! lookup is an unknown lookup. Unknown lookups have a rate limit per caller and one for the process. One is
//! reserved when a lookup starts, and refunded when it ends unless nothing was found. So first lookups of
//! existing keys cost nothing, however many there are after a start, and the number of lookups in flight
//! never exceeds the remaining unknown lookups.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    clock::SharedClock,
    store::{FailureKind, StoreError},
};

/// Burst, in seconds of the rate: more unknown lookups than come at once after a start.
const BURST_SECONDS: u32 = 10;
/// Maximum number of callers with their own limit. Above it, further callers only share the process limit.
const MAX_CALLERS: usize = 1_000;
/// Retry delay in the error for a refused lookup.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The caller that a lookup is made for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LookupOrigin(Option<Arc<str>>);

impl LookupOrigin {
    /// Creates the origin of a caller, identified by its name or address.
    #[must_use]
    pub fn caller(name: Arc<str>) -> Self {
        Self(Some(name))
    }

    /// This service itself. Its lookups are not limited.
    pub const INTERNAL: Self = Self(None);
}

/// The origin and the deadline of a load.
#[derive(Clone, Debug)]
pub struct LoadContext {
    /// The origin that an unknown lookup is counted for.
    pub origin: LookupOrigin,
    /// The caller's deadline.
    pub deadline: Instant,
}

/// A load by this service itself.
impl From<Instant> for LoadContext {
    fn from(deadline: Instant) -> Self {
        Self { origin: LookupOrigin::INTERNAL, deadline }
    }
}

/// Rate limits, in unknown lookups per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownLookupLimits {
    /// Limit of one caller.
    pub per_caller: u32,
    /// Limit of the process.
    pub total: u32,
}

/// The limit that an unknown lookup exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownLookupLimitScope {
    /// The limit of its caller.
    Caller,
    /// The limit of the process.
    Process,
}

impl UnknownLookupLimitScope {
    /// Both scopes.
    pub const ALL: [Self; 2] = [Self::Caller, Self::Process];

    /// Returns the name used in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Process => "process",
        }
    }
}

/// Limits unknown lookups.
#[derive(Debug)]
pub struct UnknownLookupLimiter {
    limits: UnknownLookupLimits,
    clock: SharedClock,
    state: Mutex<UnknownLookupLimiterState>,
}

#[derive(Debug)]
struct UnknownLookupLimiterState {
    total: TokenBucket,
    callers: HashMap<Arc<str>, TokenBucket>,
    refused: [u64; UnknownLookupLimitScope::ALL.len()],
}

/// A token bucket, in thousandths of an unknown lookup, as of a time.
#[derive(Clone, Copy, Debug)]
struct TokenBucket {
    millitokens: u64,
    updated_at: Duration,
}

impl TokenBucket {
    fn full(rate: u32, now: Duration) -> Self {
        Self { millitokens: capacity(rate), updated_at: now }
    }

    /// Returns the bucket at a later time. A rate of one unknown lookup per second adds one thousandth per
    /// millisecond.
    fn refilled_at(self, rate: u32, now: Duration) -> Self {
        let millis = u64::try_from(now.saturating_sub(self.updated_at).as_millis()).unwrap_or(u64::MAX);
        let millitokens =
            self.millitokens.saturating_add(millis.saturating_mul(rate.into())).min(capacity(rate));
        // A fraction of a millisecond is counted at the next call.
        Self { millitokens, updated_at: if millis == 0 { self.updated_at } else { now } }
    }
}

const MILLITOKENS_PER_GUESS: u64 = 1_000;

fn capacity(rate: u32) -> u64 {
    u64::from(rate) * u64::from(BURST_SECONDS) * MILLITOKENS_PER_GUESS
}

impl UnknownLookupLimiter {
    /// Creates a limiter whose buckets are full.
    pub fn new(limits: UnknownLookupLimits, clock: SharedClock) -> Self {
        let total = TokenBucket::full(limits.total, clock.monotonic());
        let state = UnknownLookupLimiterState { total, callers: HashMap::new(), refused: Default::default() };
        Self { limits, clock, state: Mutex::new(state) }
    }

    /// Reserves up to `wanted` unknown lookups for a caller, as many as its limits allow.
    pub fn reserve(self: &Arc<Self>, origin: &LookupOrigin, wanted: usize) -> UnknownLookupPermit {
        let LookupOrigin(Some(caller)) = origin else {
            return UnknownLookupPermit { limiter: None, granted: wanted, reserved: 0 };
        };
        let now = self.clock.monotonic();
        let mut state = self.state();
        let state = &mut *state;
        state.total = state.total.refilled_at(self.limits.total, now);
        let unknown_lookups_in = |bucket: &TokenBucket| {
            usize::try_from(bucket.millitokens / MILLITOKENS_PER_GUESS).unwrap_or(usize::MAX)
        };
        let mut caller_bucket = self.caller_bucket(&mut state.callers, caller, now);
        let by_caller = caller_bucket
            .as_deref()
            .map_or(wanted, |caller_bucket| wanted.min(unknown_lookups_in(caller_bucket)));
        let granted = by_caller.min(unknown_lookups_in(&state.total));
        let cost = granted as u64 * MILLITOKENS_PER_GUESS;
        state.total.millitokens -= cost;
        if let Some(caller_bucket) = &mut caller_bucket {
            caller_bucket.millitokens -= cost;
        }
        state.refused[UnknownLookupLimitScope::Caller as usize] += (wanted - by_caller) as u64;
        state.refused[UnknownLookupLimitScope::Process as usize] += (by_caller - granted) as u64;
        let limiter = Some((Arc::clone(self), Arc::clone(caller)));
        UnknownLookupPermit { limiter, granted, reserved: granted }
    }

    /// Returns the refilled bucket of a caller; `None` if too many callers have a bucket.
    fn caller_bucket<'a>(
        &self,
        callers: &'a mut HashMap<Arc<str>, TokenBucket>,
        caller: &Arc<str>,
        now: Duration,
    ) -> Option<&'a mut TokenBucket> {
        let rate = self.limits.per_caller;
        if callers.len() >= MAX_CALLERS && !callers.contains_key(caller) {
            // A full bucket is equivalent to a new one, so it can be dropped.
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
        let refund = count as u64 * MILLITOKENS_PER_GUESS;
        let mut state = self.state();
        state.total.millitokens = (state.total.millitokens + refund).min(capacity(self.limits.total));
        if let Some(caller_bucket) = state.callers.get_mut(caller) {
            caller_bucket.millitokens =
                (caller_bucket.millitokens + refund).min(capacity(self.limits.per_caller));
        }
    }

    /// Returns the number of unknown lookups refused for a limit.
    pub fn refused(&self, scope: UnknownLookupLimitScope) -> u64 {
        self.state().refused[scope as usize]
    }

    fn state(&self) -> MutexGuard<'_, UnknownLookupLimiterState> {
        // Every step of a change leaves the state usable, so a panic does not break it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reserved unknown lookups. When it is dropped, those that found something are refunded.
#[derive(Debug)]
pub struct UnknownLookupPermit {
    limiter: Option<(Arc<UnknownLookupLimiter>, Arc<str>)>,
    granted: usize,
    reserved: usize,
}

impl UnknownLookupPermit {
    /// Returns how many unknown lookups were granted.
    #[must_use]
    pub fn granted(&self) -> usize {
        self.granted
    }

    /// Records how many lookups found nothing. They are not refunded.
    pub fn record_misses(&mut self, count: usize) {
        self.reserved = self.reserved.saturating_sub(count);
    }
}

impl Drop for UnknownLookupPermit {
    fn drop(&mut self) {
        if let Some((limiter, caller)) = self.limiter.take() {
            limiter.refund(&caller, self.reserved);
        }
    }
}

/// Returns the error for a lookup that exceeds the limit.
#[must_use]
pub fn too_many_unknown_lookups_error() -> StoreError {
    let message = "too many lookups of unknown keys or sessions; see TENANT_AUTH_UNKNOWN_LOOKUPS_PER_CALLER and TENANT_AUTH_UNKNOWN_LOOKUPS";
    let mut error = StoreError::new(FailureKind::TooManyUnknownLookups, message);
    error.retry_after = Some(RETRY_AFTER);
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::{ManualClock, UnixMillis};

    const LIMITS: UnknownLookupLimits = UnknownLookupLimits { per_caller: 10, total: 15 };

    fn setup() -> (Arc<ManualClock>, Arc<UnknownLookupLimiter>) {
        let clock = ManualClock::at(UnixMillis(0));
        let limiter = UnknownLookupLimiter::new(LIMITS, Arc::clone(&clock) as SharedClock);
        (clock, Arc::new(limiter))
    }

    fn origin(name: &str) -> LookupOrigin {
        LookupOrigin::caller(name.into())
    }

    /// Makes unknown lookups, all of which find nothing.
    fn look_up(limiter: &Arc<UnknownLookupLimiter>, by: &str, wanted: usize) -> usize {
        let mut permit = limiter.reserve(&origin(by), wanted);
        permit.record_misses(permit.granted());
        permit.granted()
    }

    #[test]
    fn caller_spends_its_burst_then_its_rate() {
        let (clock, limiter) = setup();
        assert_eq!(look_up(&limiter, "a", 60), 60);
        assert_eq!(look_up(&limiter, "a", 60), 40, "the burst is ten seconds of the rate");
        assert_eq!(look_up(&limiter, "b", 30), 30, "another caller has its own limit");
        assert_eq!(limiter.refused(UnknownLookupLimitScope::Caller), 20);
        for _ in 0..10 {
            clock.advance(Duration::from_secs(1));
            assert_eq!(look_up(&limiter, "a", 100), 10);
        }
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(look_up(&limiter, "a", 1_000), 100, "the burst does not grow");
    }

    #[test]
    fn process_limit_applies_to_all_callers_together() {
        let (_, limiter) = setup();
        assert_eq!(look_up(&limiter, "a", 100), 100);
        assert_eq!(look_up(&limiter, "b", 100), 50);
        assert_eq!(
            (
                limiter.refused(UnknownLookupLimitScope::Caller),
                limiter.refused(UnknownLookupLimitScope::Process)
            ),
            (0, 50)
        );
        assert_eq!(limiter.reserve(&LookupOrigin::INTERNAL, 1_000).granted(), 1_000);
    }

    #[test]
    fn lookups_that_find_a_key_are_refunded() {
        let (_, limiter) = setup();
        for _ in 0..100 {
            let mut permit = limiter.reserve(&origin("a"), 100);
            assert_eq!(permit.granted(), 100);
            assert_eq!(limiter.reserve(&origin("a"), 1).granted(), 0, "lookups in flight use up the limit");
            permit.record_misses(0);
        }
        let mut permit = limiter.reserve(&origin("a"), 100);
        permit.record_misses(70);
        drop(permit);
        assert_eq!(look_up(&limiter, "a", 100), 30);
    }

    #[test]
    fn tracked_callers_are_bounded() {
        let (clock, limiter) = setup();
        for caller in 0..MAX_CALLERS * 2 {
            look_up(&limiter, &caller.to_string(), 1);
            assert!(limiter.state().callers.len() <= MAX_CALLERS);
        }
        clock.advance(Duration::from_secs(60));
        assert_eq!(look_up(&limiter, "new", 1_000), 100);
        let kept = limiter.state().callers.len();
        assert!(kept <= MAX_CALLERS, "{kept}");
    }
}
