//! Counters for events of every request.
//!
//! A counter that all threads share is one cache line, which moves between the cores: under load, each thread would
//! wait for the others at every request. So each thread adds to its own shard, without a lock and without waiting,
//! and a read sums the shards.

use std::{
    cell::Cell,
    fmt, iter,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

/// Number of counters per cache line.
const COUNTS_PER_LINE: usize = 16;
/// Maximum number of shards, regardless of the number of cores: each shard costs memory.
const MAX_SHARDS: usize = 64;

/// One unit that a core fetches at once (two cache lines on common cores), aligned to it: no two shards share one.
#[derive(Default)]
#[repr(align(128))]
struct CacheLine([AtomicU64; COUNTS_PER_LINE]);

/// The counters of the threads with one index.
pub struct Shard(Box<[CacheLine]>);

impl Shard {
    /// Adds to a counter.
    pub fn add(&self, slot: usize, number: u64) {
        if let Some(count) = self.count(slot) {
            // The counter orders no other memory access.
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

/// A row of monotonic counters.
#[derive(Debug)]
pub struct Counts {
    shards: Box<[Arc<Shard>]>,
}

impl Counts {
    /// Creates `slots` counters, each zero.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        // Twice as many as cores: in addition to the workers there are the threads of the runtime.
        let shards = (cores * 2).next_power_of_two().min(MAX_SHARDS);
        let lines = || iter::repeat_with(CacheLine::default).take(slots.div_ceil(COUNTS_PER_LINE)).collect();
        Self { shards: iter::repeat_with(|| Arc::new(Shard(lines()))).take(shards).collect() }
    }

    /// Returns the shard of the current thread. Code that stays on its thread may keep it.
    #[must_use]
    pub fn thread_shard(&self) -> &Arc<Shard> {
        // The number of shards is a power of two, and at least one.
        &self.shards[thread_index() & (self.shards.len() - 1)]
    }

    /// Adds to a counter.
    pub fn add(&self, slot: usize, number: u64) {
        self.thread_shard().add(slot, number);
    }

    /// Returns a counter, summed over all threads.
    #[must_use]
    pub fn get(&self, slot: usize) -> u64 {
        self.shards.iter().filter_map(|shard| shard.count(slot)).map(|c| c.load(Ordering::Relaxed)).sum()
    }
}

/// Returns the index of the current thread: threads are numbered in the order of their first count.
fn thread_index() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static INDEX: Cell<usize> = const { Cell::new(usize::MAX) });
    INDEX.with(|index| {
        if index.get() == usize::MAX {
            index.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        index.get()
    })
}

/// A single counter, for rare events.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `number`.
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    /// Returns the count.
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
        assert_eq!(counts.get(1_000), 0, "an unknown slot is ignored");
    }

    #[test]
    fn shards_do_not_share_a_cache_line() {
        assert_eq!((size_of::<CacheLine>(), align_of::<CacheLine>()), (128, 128));
        assert!(Counts::new(1).shards.len().is_power_of_two());
    }
}
