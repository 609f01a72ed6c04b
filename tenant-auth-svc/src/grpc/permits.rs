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
pub struct Holder {
    /// The caller's name, or where it calls from.
    pub name: Arc<str>,
    /// Whether it may call at all: nobody knows the others, where callers are known.
    pub is_known: bool,
}

/// How many places there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// For all callers together.
    pub process: usize,
    /// For one of them.
    pub caller: usize,
    /// For all that nobody knows together: they come on top of the others.
    pub strangers: usize,
    /// For one of these, by its address.
    pub stranger: usize,
}

/// The places for one kind of thing, counted over the whole process, whatever connection it comes on. Cheap to clone;
/// clones share everything.
#[derive(Clone, Debug)]
pub struct Places(Arc<Count>);

#[derive(Debug)]
struct Count {
    what: &'static str,
    bounds: Bounds,
    held: Mutex<Held>,
    /// The sum of what is held, to be looked at without waiting.
    taken: AtomicUsize,
    /// How often there was none left, in the one slot. Under a flood every thread refuses.
    refused: Counts,
}

#[derive(Debug, Default)]
struct Held {
    known: usize,
    strangers: usize,
    by: HashMap<Holder, usize>,
}

/// There is no place left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub struct Full {
    what: &'static str,
    limit: usize,
    bound: Bound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Process,
    Caller,
    Strangers,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, limit, bound } = self;
        match bound {
            Bound::Process => write!(f, "{limit} {what} are in work already, so this one was not begun"),
            Bound::Caller => {
                write!(
                    f,
                    "{limit} {what} of this caller are in work already, which is its share, so this one was not begun"
                )
            }
            Bound::Strangers => {
                write!(
                    f,
                    "{limit} {what} of callers that nobody knows are in work already, so this one was not begun"
                )
            }
        }
    }
}

impl Places {
    /// As many as this. `what` they are for, in the plural, completes the sentence "10 … are in work".
    #[must_use]
    pub fn new(what: &'static str, bounds: Bounds) -> Self {
        let (held, taken) = (Mutex::default(), AtomicUsize::new(0));
        Self(Arc::new(Count { what, bounds, held, taken, refused: Counts::new(1) }))
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
    /// [`Full`] when there are too few, in the process or in the holder's share.
    pub fn take(&self, holder: &Holder, amount: usize) -> Result<Place, Full> {
        self.hold(holder, amount)?;
        Ok(Place { places: self.clone(), holder: holder.clone(), amount: AtomicUsize::new(amount) })
    }

    fn hold(&self, holder: &Holder, amount: usize) -> Result<(), Full> {
        let Bounds { process, caller, strangers, stranger } = self.0.bounds;
        let mut held = self.held();
        let own = held.by.get(holder).copied().unwrap_or_default();
        let (all, of_all, bound, of_one) = match holder.is_known {
            true => (held.known, process, Bound::Process, caller),
            false => (held.strangers, strangers, Bound::Strangers, stranger),
        };
        let full = if amount > of_all.saturating_sub(all) {
            Some((of_all, bound))
        } else if amount > of_one.saturating_sub(own) {
            Some((of_one, Bound::Caller))
        } else {
            None
        };
        if let Some((limit, bound)) = full {
            drop(held);
            self.0.refused.add(0, 1);
            return Err(Full { what: self.0.what, limit, bound });
        }
        *held.all_of(holder) += amount;
        *held.by.entry(holder.clone()).or_default() += amount;
        self.0.taken.fetch_add(amount, Ordering::Relaxed);
        Ok(())
    }

    fn give_back(&self, holder: &Holder, amount: usize) {
        let mut held = self.held();
        *held.all_of(holder) -= amount;
        // Holders that are gone must not stay in memory for ever: anybody can come from many addresses.
        if let Some(own) = held.by.get_mut(holder) {
            *own -= amount;
            if *own == 0 {
                held.by.remove(holder);
            }
        }
        self.0.taken.fetch_sub(amount, Ordering::Relaxed);
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Every change is made of steps that leave it usable.
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn all_of(&mut self, holder: &Holder) -> &mut usize {
        if holder.is_known { &mut self.known } else { &mut self.strangers }
    }
}

/// Places in use, most often one. They are free again when this value goes, however it goes, or sooner by [`Place::release`].
#[derive(Debug)]
pub struct Place {
    places: Places,
    holder: Holder,
    amount: AtomicUsize,
}

impl Place {
    /// Gives back what it has. Once is enough, more is no harm.
    pub fn release(&self) {
        let amount = self.amount.swap(0, Ordering::Relaxed);
        if amount > 0 {
            self.places.give_back(&self.holder, amount);
        }
    }

    /// Takes so many more.
    ///
    /// # Errors
    /// [`Full`] when there are too few; what it has it keeps.
    pub fn grow(&self, more: usize) -> Result<(), Full> {
        self.places.hold(&self.holder, more)?;
        self.amount.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }

    /// Another one like it, for the same holder.
    ///
    /// # Errors
    /// [`Full`] when there is none.
    pub fn another(&self) -> Result<Self, Full> {
        self.places.take(&self.holder, 1)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(name: &str, is_known: bool) -> Holder {
        Holder { name: name.into(), is_known }
    }

    fn places(process: usize, caller: usize) -> Places {
        Places::new("requests", Bounds { process, caller, strangers: 3, stranger: 2 })
    }

    #[test]
    fn there_are_as_many_as_there_are() {
        let (places, api) = (places(2, 2), holder("api", true));
        let (first, second) = (places.take(&api, 1).unwrap(), places.clone().take(&api, 1).unwrap());
        assert!(places.take(&api, 1).is_err());
        first.release();
        first.release();
        let third = places.take(&api, 1).unwrap();
        drop(first);
        assert!(second.another().is_err(), "given back three times, it was one place");
        assert_eq!(places.refused(), 2);
        drop((second, third));
        assert_eq!(places.taken(), 0);
    }

    #[test]
    fn one_caller_has_its_share_and_leaves_the_rest_to_the_others() {
        let places = places(10, 5);
        let (greedy, good) = (holder("greedy", true), holder("good", true));
        let taken: Vec<_> = std::iter::from_fn(|| places.take(&greedy, 1).ok()).collect();
        assert_eq!(taken.len(), 5);
        let refused = places.take(&greedy, 1).unwrap_err().to_string();
        assert!(refused.starts_with("5 requests of this caller are in work already"), "{refused}");
        let good_ones: Vec<_> = std::iter::from_fn(|| places.take(&good, 1).ok()).collect();
        assert_eq!(good_ones.len(), 5);
    }

    #[test]
    fn strangers_take_nothing_from_callers_and_not_everything_from_each_other() {
        let places = places(2, 2);
        let (one, other, api) = (holder("10.0.0.1", false), holder("10.0.0.2", false), holder("api", true));
        let taken: Vec<_> = std::iter::from_fn(|| places.take(&one, 1).ok()).collect();
        assert_eq!(taken.len(), 2, "of three");
        let _last = places.take(&other, 1).unwrap();
        assert!(places.take(&other, 1).is_err(), "all of them together have three");
        let _all = places.take(&api, 2).unwrap();
    }

    #[test]
    fn a_place_grows_within_its_share_and_gives_back_all_of_it() {
        let (places, api) = (places(100, 60), holder("api", true));
        let place = places.take(&api, 10).unwrap();
        place.grow(50).unwrap();
        place.grow(1).unwrap_err();
        assert_eq!(places.taken(), 60);
        drop(place);
        assert_eq!(places.taken(), 0);
        assert!(places.held().by.is_empty(), "nobody is remembered");
    }

    #[test]
    fn threads_never_take_more_than_there_are_and_leave_none_behind() {
        const LIMIT: usize = 3;
        let places = places(LIMIT, LIMIT);
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (places, holder) = (&places, holder(&number.to_string(), true));
                scope.spawn(move || {
                    for _ in 0..10_000 {
                        let place = places.take(&holder, 1);
                        assert!(places.taken() <= LIMIT);
                        drop(place);
                    }
                });
            }
        });
        assert_eq!(places.taken(), 0);
        let api = holder("api", true);
        let all: Vec<_> = std::iter::from_fn(|| places.take(&api, 1).ok()).collect();
        assert_eq!(all.len(), LIMIT);
    }
}
