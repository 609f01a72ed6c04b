//! Counts that every request adds to.
//!
//! A counter that all threads share is one cache line that they pass around: under load, each would wait for the others
//! at every request. So each thread adds to a shard of its own, without a lock and without waiting, and whoever reads,
//! once in a while, sums them up.

use std::{
    cell::Cell,
    fmt, iter,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

/// How many counts are on one line.
const LINE: usize = 16;
/// The most shards, however many cores there are: each costs memory.
const MOST: usize = 64;

/// As long as what a core fetches at once (two cache lines on common ones), and beginning where that begins: no two
/// shards meet on one.
#[derive(Default)]
#[repr(align(128))]
struct Line([AtomicU64; LINE]);

/// What the threads of one seat have counted.
pub struct Shard(Box<[Line]>);

impl Shard {
    /// Adds to a count.
    pub fn add(&self, slot: usize, number: u64) {
        if let Some(count) = self.count(slot) {
            // It counts, and orders nothing else.
            count.fetch_add(number, Ordering::Relaxed);
        }
    }

    fn count(&self, slot: usize) -> Option<&AtomicU64> {
        self.0.get(slot / LINE).and_then(|line| line.0.get(slot % LINE))
    }
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").finish_non_exhaustive()
    }
}

/// A row of counts that never go down.
#[derive(Debug)]
pub struct Counts {
    shards: Box<[Arc<Shard>]>,
}

impl Counts {
    /// As many as this, each zero.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        // Twice as many as cores: besides the workers there are the threads of the runtime.
        let shards = (cores * 2).next_power_of_two().min(MOST);
        let lines = || iter::repeat_with(Line::default).take(slots.div_ceil(LINE)).collect();
        Self { shards: iter::repeat_with(|| Arc::new(Shard(lines()))).take(shards).collect() }
    }

    /// The shard of the thread that asks. What stays on its thread may keep it.
    #[must_use]
    pub fn mine(&self) -> &Arc<Shard> {
        // There are as many as a power of two, and never none.
        &self.shards[seat() & (self.shards.len() - 1)]
    }

    /// Adds to a count.
    pub fn add(&self, slot: usize, number: u64) {
        self.mine().add(slot, number);
    }

    /// A count, over all threads.
    #[must_use]
    pub fn get(&self, slot: usize) -> u64 {
        self.shards.iter().filter_map(|shard| shard.count(slot)).map(|c| c.load(Ordering::Relaxed)).sum()
    }
}

/// A number for each thread, in the order in which they first count.
fn seat() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static SEAT: Cell<usize> = const { Cell::new(usize::MAX) });
    SEAT.with(|seat| {
        if seat.get() == usize::MAX {
            seat.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        seat.get()
    })
}

/// A single count, of what is rare.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn one(&self) {
        self.add(1);
    }

    /// This many more.
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    /// How many.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_however_many_threads_count() {
        let counts = Counts::new(40);
        thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| {
                    for slot in 0..40 {
                        counts.add(slot, slot as u64);
                    }
                    counts.add(40, 1);
                    counts.add(1_000, 1);
                });
            }
        });
        for slot in 0..40 {
            assert_eq!(counts.get(slot), 100 * slot as u64);
        }
        assert_eq!(counts.get(1_000), 0, "there is no such slot, and that harms nobody");
    }

    #[test]
    fn no_two_shards_share_a_line() {
        assert_eq!((size_of::<Line>(), align_of::<Line>()), (128, 128));
        assert!(Counts::new(1).shards.len().is_power_of_two());
    }
}
