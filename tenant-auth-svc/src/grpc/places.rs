//! How much may be in work at once.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use crate::measure::counts::Counts;

/// The places for what is in work, counted over the whole process, whatever connection it comes on. Cheap to clone;
/// clones share everything.
#[derive(Clone, Debug)]
pub struct Places(Arc<Count>);

#[derive(Debug)]
struct Count {
    limit: usize,
    taken: AtomicUsize,
    /// How often there was none left, in the one slot. Under a flood every thread refuses.
    refused: Counts,
}

impl Places {
    /// As many as this.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Count { limit, taken: AtomicUsize::new(0), refused: Counts::new(1) }))
    }

    /// How many there are, free or taken.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.0.limit
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

    /// Takes one, if there is any left. Never waits: what has to wait for a place is refused, so that it can try
    /// another replica.
    #[must_use]
    pub fn take(&self) -> Option<Place> {
        let one_more = |taken: usize| (taken < self.0.limit).then_some(taken + 1);
        // It counts, and orders nothing else.
        if self.0.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err() {
            self.0.refused.add(0, 1);
            return None;
        }
        Some(Place { places: self.clone(), held: AtomicBool::new(true) })
    }
}

/// A place in use. It is free again when this value goes, however it goes, or sooner by [`Place::release`].
#[derive(Debug)]
pub struct Place {
    places: Places,
    held: AtomicBool,
}

impl Place {
    /// Gives it back. Once is enough, more is no harm.
    pub fn release(&self) {
        if self.held.swap(false, Ordering::Relaxed) {
            self.places.0.taken.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Where it was taken from.
    #[must_use]
    pub fn places(&self) -> &Places {
        &self.places
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

    #[test]
    fn there_are_as_many_as_there_are() {
        let places = Places::new(2);
        let (first, second) = (places.take().unwrap(), places.clone().take().unwrap());
        assert!(places.take().is_none());
        first.release();
        first.release();
        let third = places.take().unwrap();
        drop(first);
        assert!(places.take().is_none(), "given back three times, it was one place");
        assert_eq!(places.refused(), 2);
        drop((second, third));
        assert_eq!(places.0.taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn threads_never_take_more_than_there_are_and_leave_none_behind() {
        const LIMIT: usize = 3;
        let places = Places::new(LIMIT);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let place = places.take();
                        assert!(places.0.taken.load(Ordering::Relaxed) <= LIMIT);
                        drop(place);
                    }
                });
            }
        });
        let all: Vec<_> = std::iter::from_fn(|| places.take()).collect();
        assert_eq!(all.len(), LIMIT);
    }
}
