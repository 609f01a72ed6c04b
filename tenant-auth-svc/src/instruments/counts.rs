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
const COUNTS_PER_LINE: usize = 16;
/// The most shards, however many cores there are: each costs memory.
const MAX_SHARDS: usize = 64;

/// As long as what a core fetches at once (two cache lines on common ones), and beginning where that begins: no two
/// shards meet on one.
#[derive(Default)]
#[repr(align(128))]
struct CacheLine([AtomicU64; COUNTS_PER_LINE]);

/// What the threads of one seat have counted.
pub struct Shard(Box<[CacheLine]>);

impl Shard {
    /// Adds to a count.
    pub fn add(&self, slot: usize, number: u64) {
        if let Some(count) = self.count(slot) {
            // It counts, and orders nothing else.
            count.fetch_add(number, Ordering::Relaxed);
        }
    }

    fn count(&self, slot: usize) -> Option<&AtomicU64> {
        self.0.get(slot / COUNTS_PER_LINE).and_then(|line| line.0.get(slot % COUNTS_PER_LINE))
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
        let shards = (cores * 2).next_power_of_two().min(MAX_SHARDS);
        let lines = || iter::repeat_with(CacheLine::default).take(slots.div_ceil(COUNTS_PER_LINE)).collect();
        Self { shards: iter::repeat_with(|| Arc::new(Shard(lines()))).take(shards).collect() }
    }

    /// The shard of the thread that asks. What stays on its thread may keep it.
    #[must_use]
    pub fn thread_shard(&self) -> &Arc<Shard> {
        // There are as many as a power of two, and never none.
        &self.shards[thread_index() & (self.shards.len() - 1)]
    }

    /// Adds to a count.
    pub fn add(&self, slot: usize, number: u64) {
        self.thread_shard().add(slot, number);
    }

    /// A count, over all threads.
    #[must_use]
    pub fn get(&self, slot: usize) -> u64 {
        self.shards.iter().filter_map(|shard| shard.count(slot)).map(|c| c.load(Ordering::Relaxed)).sum()
    }
}

/// A number for each thread, in the order in which they first count.
fn thread_index() -> usize {
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
    pub fn increment(&self) {
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
    fn concurrent_counts_are_complete() {
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
    fn shards_do_not_share_a_cache_line() {
        assert_eq!((size_of::<CacheLine>(), align_of::<CacheLine>()), (128, 128));
        assert!(Counts::new(1).shards.len().is_power_of_two());
    }
}
