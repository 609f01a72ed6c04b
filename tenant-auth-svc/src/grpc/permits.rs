//! How much may be in work at once: in the whole process, and for one caller.
//!
//! A bound on the process alone lets one caller take all of it. So each caller has a share, and all that nobody knows have a
//! small one together, and a smaller one for each address: they can keep nobody else out, and one of them not the others.

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

/// Who takes places.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PermitHolder {
    /// The caller's name, or where it calls from.
    pub name: Arc<str>,
    /// Whether it may call at all: nobody knows the others, where callers are known.
    pub is_known: bool,
}

/// How many places there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimiterBounds {
    /// For all callers together.
    pub process: usize,
    /// For one of them.
    pub per_caller: usize,
    /// For all that nobody knows together: they come on top of the others.
    pub unknown_callers: usize,
    /// For one of these, by its address.
    pub per_unknown_address: usize,
}

/// The places for one kind of thing, counted over the whole process, whatever connection it comes on. Cheap to clone;
/// clones share everything.
#[derive(Clone, Debug)]
pub struct Limiter(Arc<LimiterState>);

#[derive(Debug)]
struct LimiterState {
    resource: &'static str,
    bounds: LimiterBounds,
    lock_held: Mutex<HeldPermits>,
    /// The sum of what is held, to be looked at without waiting.
    taken: AtomicUsize,
    /// How often there was none left, in the one slot. Under a flood every thread refuses.
    refused: Counts,
}

#[derive(Debug, Default)]
struct HeldPermits {
    known_callers: usize,
    unknown_callers: usize,
    by_holder: HashMap<PermitHolder, usize>,
}

/// There is no place left.
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
        let Self { resource: what, limit, bound } = self;
        match bound {
            ReachedBound::Process => {
                write!(f, "{limit} {what} are in work already, so this one was not begun")
            }
            ReachedBound::Caller => {
                write!(
                    f,
                    "{limit} {what} of this caller are in work already, which is its share, so this one was not begun"
                )
            }
            ReachedBound::UnknownCallers => {
                write!(
                    f,
                    "{limit} {what} of callers that nobody knows are in work already, so this one was not begun"
                )
            }
        }
    }
}

impl Limiter {
    /// As many as this. `what` they are for, in the plural, completes the sentence "10 … are in work".
    #[must_use]
    pub fn new(what: &'static str, bounds: LimiterBounds) -> Self {
        let (held, taken) = (Mutex::default(), AtomicUsize::new(0));
        Self(Arc::new(LimiterState {
            resource: what,
            bounds,
            lock_held: held,
            taken,
            refused: Counts::new(1),
        }))
    }

    /// How many there are, free or taken, for all callers together.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.0.bounds.process
    }

    /// How many are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.0.taken.load(Ordering::Relaxed)
    }

    /// How often one was asked for and there was none.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.refused.get(0)
    }

    /// Takes so many, if there are any left. Never waits: what has to wait for a place is refused, so that it can try
    /// another replica.
    ///
    /// # Errors
    /// [`LimitReached`] when there are too few, in the process or in the holder's share.
    pub fn try_acquire(&self, holder: &PermitHolder, amount: usize) -> Result<Permit, LimitReached> {
        self.reserve(holder, amount)?;
        Ok(Permit { limiter: self.clone(), holder: holder.clone(), amount: AtomicUsize::new(amount) })
    }

    fn reserve(&self, holder: &PermitHolder, amount: usize) -> Result<(), LimitReached> {
        let LimiterBounds {
            process,
            per_caller: caller,
            unknown_callers: strangers,
            per_unknown_address: stranger,
        } = self.0.bounds;
        let mut held = self.held();
        let own = held.by_holder.get(holder).copied().unwrap_or_default();
        let (all, of_all, bound, of_one) = match holder.is_known {
            true => (held.known_callers, process, ReachedBound::Process, caller),
            false => (held.unknown_callers, strangers, ReachedBound::UnknownCallers, stranger),
        };
        let full = if amount > of_all.saturating_sub(all) {
            Some((of_all, bound))
        } else if amount > of_one.saturating_sub(own) {
            Some((of_one, ReachedBound::Caller))
        } else {
            None
        };
        if let Some((limit, bound)) = full {
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
        let mut held = self.held();
        *held.total_mut(holder) -= amount;
        // Holders that are gone must not stay in memory for ever: anybody can come from many addresses.
        if let Some(own) = held.by_holder.get_mut(holder) {
            *own -= amount;
            if *own == 0 {
                held.by_holder.remove(holder);
            }
        }
        self.0.taken.fetch_sub(amount, Ordering::Relaxed);
    }

    fn held(&self) -> MutexGuard<'_, HeldPermits> {
        // Every change is made of steps that leave it usable.
        self.0.lock_held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeldPermits {
    fn total_mut(&mut self, holder: &PermitHolder) -> &mut usize {
        if holder.is_known { &mut self.known_callers } else { &mut self.unknown_callers }
    }
}

/// Places in use, most often one. They are free again when this value goes, however it goes, or sooner by [`Permit::release`].
#[derive(Debug)]
pub struct Permit {
    limiter: Limiter,
    holder: PermitHolder,
    amount: AtomicUsize,
}

impl Permit {
    /// Gives back what it has. Once is enough, more is no harm.
    pub fn release(&self) {
        let amount = self.amount.swap(0, Ordering::Relaxed);
        if amount > 0 {
            self.limiter.release(&self.holder, amount);
        }
    }

    /// Takes so many more.
    ///
    /// # Errors
    /// [`LimitReached`] when there are too few; what it has it keeps.
    pub fn try_grow(&self, more: usize) -> Result<(), LimitReached> {
        self.limiter.reserve(&self.holder, more)?;
        self.amount.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }

    /// Another one like it, for the same holder.
    ///
    /// # Errors
    /// [`LimitReached`] when there is none.
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

    fn limiter(process: usize, caller: usize) -> Limiter {
        Limiter::new(
            "requests",
            LimiterBounds { process, per_caller: caller, unknown_callers: 3, per_unknown_address: 2 },
        )
    }

    #[test]
    fn limiter_never_exceeds_its_bound() {
        let (places, api) = (limiter(2, 2), holder("api", true));
        let (first, second) =
            (places.try_acquire(&api, 1).unwrap(), places.clone().try_acquire(&api, 1).unwrap());
        assert!(places.try_acquire(&api, 1).is_err());
        first.release();
        first.release();
        let third = places.try_acquire(&api, 1).unwrap();
        drop(first);
        assert!(second.try_acquire_another().is_err(), "given back three times, it was one place");
        assert_eq!(places.refused(), 2);
        drop((second, third));
        assert_eq!(places.taken(), 0);
    }

    #[test]
    fn one_caller_cannot_take_the_share_of_another() {
        let places = limiter(10, 5);
        let (greedy, good) = (holder("greedy", true), holder("good", true));
        let taken: Vec<_> = std::iter::from_fn(|| places.try_acquire(&greedy, 1).ok()).collect();
        assert_eq!(taken.len(), 5);
        let refused = places.try_acquire(&greedy, 1).unwrap_err().to_string();
        assert!(refused.starts_with("5 requests of this caller are in work already"), "{refused}");
        let good_ones: Vec<_> = std::iter::from_fn(|| places.try_acquire(&good, 1).ok()).collect();
        assert_eq!(good_ones.len(), 5);
    }

    #[test]
    fn unknown_callers_have_bounds_of_their_own() {
        let places = limiter(2, 2);
        let (one, other, api) = (holder("10.0.0.1", false), holder("10.0.0.2", false), holder("api", true));
        let taken: Vec<_> = std::iter::from_fn(|| places.try_acquire(&one, 1).ok()).collect();
        assert_eq!(taken.len(), 2, "of three");
        let _last = places.try_acquire(&other, 1).unwrap();
        assert!(places.try_acquire(&other, 1).is_err(), "all of them together have three");
        let _all = places.try_acquire(&api, 2).unwrap();
    }

    #[test]
    fn permit_grows_within_its_share_and_releases_all() {
        let (places, api) = (limiter(100, 60), holder("api", true));
        let place = places.try_acquire(&api, 10).unwrap();
        place.try_grow(50).unwrap();
        place.try_grow(1).unwrap_err();
        assert_eq!(places.taken(), 60);
        drop(place);
        assert_eq!(places.taken(), 0);
        assert!(places.held().by_holder.is_empty(), "nobody is remembered");
    }

    #[test]
    fn concurrent_threads_never_exceed_the_limit() {
        const LIMIT: usize = 3;
        let places = limiter(LIMIT, LIMIT);
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (places, holder) = (&places, holder(&number.to_string(), true));
                scope.spawn(move || {
                    for _ in 0..10_000 {
                        let place = places.try_acquire(&holder, 1);
                        assert!(places.taken() <= LIMIT);
                        drop(place);
                    }
                });
            }
        });
        assert_eq!(places.taken(), 0);
        let api = holder("api", true);
        let all: Vec<_> = std::iter::from_fn(|| places.try_acquire(&api, 1).ok()).collect();
        assert_eq!(all.len(), LIMIT);
    }
}
