//! Limits of what is in flight: in the whole process, and for one caller.
//!
//! With only a limit for the process, one caller could use all of it. So each caller has a limit. All unknown
//! callers together have a small separate limit, and each of their addresses a smaller one: unknown callers
//! cannot block known callers, and one address cannot block the others.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use thiserror::Error;

use crate::instruments::counts::Counts;

/// The holder of permits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PermitHolder {
    /// The caller's name, or the address of an unknown caller.
    pub name: Arc<str>,
    /// Whether the caller is known. `false` only on a service that has a callers file.
    pub is_known: bool,
}

/// The limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimiterBounds {
    /// The limit for all known callers together.
    pub process: usize,
    /// The limit for one known caller.
    pub per_caller: usize,
    /// The limit for all unknown callers together, in addition to `process`.
    pub unknown_callers: usize,
    /// The limit for one address of unknown callers.
    pub per_unknown_address: usize,
}

/// The permits for one kind of resource, counted over all connections of the process. Cheap to clone; clones
/// share their state.
#[derive(Clone, Debug)]
pub struct Limiter(Arc<LimiterState>);

#[derive(Debug)]
struct LimiterState {
    resource: &'static str,
    bounds: LimiterBounds,
    held: Mutex<HeldPermits>,
    /// The sum of the permits held, readable without the lock.
    taken: AtomicUsize,
    /// The number of refusals, in one slot. Sharded, because during a flood all threads refuse.
    refused: Counts,
}

#[derive(Debug, Default)]
struct HeldPermits {
    known_callers: usize,
    unknown_callers: usize,
    by_holder: HashMap<PermitHolder, usize>,
}

/// A limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub struct LimitReached {
    resource: &'static str,
    limit: usize,
    bound: ReachedBound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReachedBound {
    Process,
    Caller,
    UnknownCallers,
}

impl fmt::Display for LimitReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource, limit, bound } = self;
        match bound {
            ReachedBound::Process => {
                write!(f, "the limit of {limit} {resource} is reached; retry later, or on another replica")
            }
            ReachedBound::Caller => {
                write!(
                    f,
                    "this caller's limit of {limit} {resource} is reached; retry later, or on another replica"
                )
            }
            ReachedBound::UnknownCallers => {
                write!(
                    f,
                    "the limit of {limit} {resource} of unknown callers is reached; authenticate, or retry later"
                )
            }
        }
    }
}

impl Limiter {
    /// Creates a limiter. `resource` is a plural noun; it completes the sentence "the limit of 10 … is
    /// reached".
    #[must_use]
    pub fn new(resource: &'static str, bounds: LimiterBounds) -> Self {
        let (held, taken) = (Mutex::default(), AtomicUsize::new(0));
        Self(Arc::new(LimiterState { resource, bounds, held, taken, refused: Counts::new(1) }))
    }

    /// Returns the limit for all known callers together.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.0.bounds.process
    }

    /// Returns the number of permits held.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.0.taken.load(Ordering::Relaxed)
    }

    /// Returns the number of refusals.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.refused.get(0)
    }

    /// Acquires `amount` permits. Never waits: the server refuses the request, so that the caller can try
    /// another replica.
    ///
    /// # Errors
    /// [`LimitReached`] if the process or the holder has too few permits left.
    pub fn try_acquire(&self, holder: &PermitHolder, amount: usize) -> Result<Permit, LimitReached> {
        self.reserve(holder, amount)?;
        Ok(Permit { limiter: self.clone(), holder: holder.clone(), amount: AtomicUsize::new(amount) })
    }

    fn reserve(&self, holder: &PermitHolder, amount: usize) -> Result<(), LimitReached> {
        let LimiterBounds { process, per_caller, unknown_callers, per_unknown_address } = self.0.bounds;
        let mut held = self.lock_held();
        let own = held.by_holder.get(holder).copied().unwrap_or_default();
        let (all, of_all, bound, of_one) = match holder.is_known {
            true => (held.known_callers, process, ReachedBound::Process, per_caller),
            false => {
                (held.unknown_callers, unknown_callers, ReachedBound::UnknownCallers, per_unknown_address)
            }
        };
        let reached = if amount > of_all.saturating_sub(all) {
            Some((of_all, bound))
        } else if amount > of_one.saturating_sub(own) {
            Some((of_one, ReachedBound::Caller))
        } else {
            None
        };
        if let Some((limit, bound)) = reached {
            drop(held);
            self.0.refused.add(0, 1);
            return Err(LimitReached { resource: self.0.resource, limit, bound });
        }
        *held.total_mut(holder) += amount;
        *held.by_holder.entry(holder.clone()).or_default() += amount;
        self.0.taken.fetch_add(amount, Ordering::Relaxed);
        Ok(())
    }

    fn release(&self, holder: &PermitHolder, amount: usize) {
        let mut held = self.lock_held();
        *held.total_mut(holder) -= amount;
        // Holders without permits are removed: otherwise requests from many addresses would fill the memory.
        if let Some(own) = held.by_holder.get_mut(holder) {
            *own -= amount;
            if *own == 0 {
                held.by_holder.remove(holder);
            }
        }
        self.0.taken.fetch_sub(amount, Ordering::Relaxed);
    }

    fn lock_held(&self) -> MutexGuard<'_, HeldPermits> {
        // A panic cannot leave the counts inconsistent: every step leaves them usable.
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeldPermits {
    fn total_mut(&mut self, holder: &PermitHolder) -> &mut usize {
        if holder.is_known { &mut self.known_callers } else { &mut self.unknown_callers }
    }
}

/// Permits in use, most often one. Dropping the value releases them; [`Permit::release`] releases them
/// earlier.
#[derive(Debug)]
pub struct Permit {
    limiter: Limiter,
    holder: PermitHolder,
    amount: AtomicUsize,
}

impl Permit {
    /// Releases the permits. Further calls have no effect.
    pub fn release(&self) {
        let amount = self.amount.swap(0, Ordering::Relaxed);
        if amount > 0 {
            self.limiter.release(&self.holder, amount);
        }
    }

    /// Acquires more permits.
    ///
    /// # Errors
    /// [`LimitReached`] if too few are left; the value keeps the permits that it has.
    pub fn try_grow(&self, more: usize) -> Result<(), LimitReached> {
        self.limiter.reserve(&self.holder, more)?;
        self.amount.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }

    /// Acquires another permit for the same holder.
    ///
    /// # Errors
    /// [`LimitReached`] if none is left.
    pub fn try_acquire_another(&self) -> Result<Self, LimitReached> {
        self.limiter.try_acquire(&self.holder, 1)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(name: &str, is_known: bool) -> PermitHolder {
        PermitHolder { name: name.into(), is_known }
    }

    fn limiter(process: usize, per_caller: usize) -> Limiter {
        Limiter::new(
            "requests",
            LimiterBounds { process, per_caller, unknown_callers: 3, per_unknown_address: 2 },
        )
    }

    #[test]
    fn limiter_never_exceeds_its_bound() {
        let (limiter, api) = (limiter(2, 2), holder("api", true));
        let (first, second) =
            (limiter.try_acquire(&api, 1).unwrap(), limiter.clone().try_acquire(&api, 1).unwrap());
        assert!(limiter.try_acquire(&api, 1).is_err());
        first.release();
        first.release();
        let third = limiter.try_acquire(&api, 1).unwrap();
        drop(first);
        assert!(second.try_acquire_another().is_err(), "one permit, released three times, counts once");
        assert_eq!(limiter.refused(), 2);
        drop((second, third));
        assert_eq!(limiter.taken(), 0);
    }

    #[test]
    fn one_caller_cannot_take_the_share_of_another() {
        let limiter = limiter(10, 5);
        let (greedy, good) = (holder("greedy", true), holder("good", true));
        let taken: Vec<_> = std::iter::from_fn(|| limiter.try_acquire(&greedy, 1).ok()).collect();
        assert_eq!(taken.len(), 5);
        let refused = limiter.try_acquire(&greedy, 1).unwrap_err().to_string();
        assert!(refused.starts_with("this caller's limit of 5 requests is reached"), "{refused}");
        let good_ones: Vec<_> = std::iter::from_fn(|| limiter.try_acquire(&good, 1).ok()).collect();
        assert_eq!(good_ones.len(), 5);
    }

    #[test]
    fn unknown_callers_have_bounds_of_their_own() {
        let limiter = limiter(2, 2);
        let (one, other, api) = (holder("10.0.0.1", false), holder("10.0.0.2", false), holder("api", true));
        let taken: Vec<_> = std::iter::from_fn(|| limiter.try_acquire(&one, 1).ok()).collect();
        assert_eq!(taken.len(), 2, "the limit of one address");
        let _last = limiter.try_acquire(&other, 1).unwrap();
        assert!(limiter.try_acquire(&other, 1).is_err(), "unknown callers together have three permits");
        let _all = limiter.try_acquire(&api, 2).unwrap();
    }

    #[test]
    fn permit_grows_within_its_share_and_releases_all() {
        let (limiter, api) = (limiter(100, 60), holder("api", true));
        let permit = limiter.try_acquire(&api, 10).unwrap();
        permit.try_grow(50).unwrap();
        permit.try_grow(1).unwrap_err();
        assert_eq!(limiter.taken(), 60);
        drop(permit);
        assert_eq!(limiter.taken(), 0);
        assert!(limiter.lock_held().by_holder.is_empty(), "no holder is kept without permits");
    }

    #[test]
    fn concurrent_threads_never_exceed_the_limit() {
        const LIMIT: usize = 3;
        let limiter = limiter(LIMIT, LIMIT);
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (limiter, holder) = (&limiter, holder(&number.to_string(), true));
                scope.spawn(move || {
                    for _ in 0..10_000 {
                        let permit = limiter.try_acquire(&holder, 1);
                        assert!(limiter.taken() <= LIMIT);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(limiter.taken(), 0);
        let api = holder("api", true);
        let all: Vec<_> = std::iter::from_fn(|| limiter.try_acquire(&api, 1).ok()).collect();
        assert_eq!(all.len(), LIMIT);
    }
}
