//! How long things took: a histogram of fixed bounds, in slots of [`Counts`].

use std::time::Duration;

use super::counts::{Counts, Shard};

/// The upper bounds of the buckets, in seconds: 50 µs, and twice as much each time. An answer from memory is in the first
/// ones, a database far away in the middle, and what nobody waits for any longer beyond the last.
pub const BUCKET_BOUNDS: [f64; 19] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_4, 0.000_8, 0.001_6, 0.003_2, 0.006_4, 0.012_8, 0.025_6, 0.051_2,
    0.102_4, 0.204_8, 0.409_6, 0.819_2, 1.638_4, 3.276_8, 6.553_6, 13.107_2,
];
/// The first bound.
const FIRST_BOUND_NANOS: u64 = 50_000;
/// The place of the sum, in nanoseconds, after the buckets and the one for what is longer than all bounds.
const SUM_SLOT: usize = BUCKET_BOUNDS.len() + 1;
/// How many slots one histogram takes.
pub const SLOTS_PER_HISTOGRAM: usize = SUM_SLOT + 1;

/// What a histogram has seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// How many were in each bucket (and in none before it); the last one has no bound.
    pub buckets: [u64; BUCKET_BOUNDS.len() + 1],
    /// All of them together, in seconds.
    pub sum: f64,
}

impl Distribution {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds what another has seen.
    pub fn add(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket += more;
        }
        self.sum += other.sum;
    }
}

/// Notes a time in the histogram whose slots begin at `first`.
pub fn record(shard: &Shard, first: usize, time: Duration) {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    shard.add(first + bucket_index(nanos), 1);
    shard.add(first + SUM_SLOT, nanos);
}

/// Reads the histogram whose slots begin at `first`.
#[must_use]
pub fn read(counts: &Counts, first: usize) -> Distribution {
    let mut told = Distribution::default();
    for (place, bucket) in told.buckets.iter_mut().enumerate() {
        *bucket = counts.get(first + place);
    }
    told.sum = Duration::from_nanos(counts.get(first + SUM_SLOT)).as_secs_f64();
    told
}

/// The bounds double, so that the place is a logarithm: no search.
fn bucket_index(nanos: u64) -> usize {
    let units = nanos.div_ceil(FIRST_BOUND_NANOS).max(1);
    let place = u64::BITS - (units - 1).leading_zeros();
    (place as usize).min(BUCKET_BOUNDS.len())
}

/// A row of histograms.
#[derive(Debug)]
pub struct DurationHistograms(Counts);

impl DurationHistograms {
    /// As many as this.
    #[must_use]
    pub fn new(series: usize) -> Self {
        Self(Counts::new(series * SLOTS_PER_HISTOGRAM))
    }

    /// Notes a time in one of them.
    pub fn record(&self, series: usize, time: Duration) {
        record(self.0.thread_shard(), series * SLOTS_PER_HISTOGRAM, time);
    }

    /// Reads one of them.
    #[must_use]
    pub fn read(&self, series: usize) -> Distribution {
        read(&self.0, series * SLOTS_PER_HISTOGRAM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_is_in_the_bucket_that_bounds_it() {
        assert_eq!(bucket_index(0), 0);
        for (place, bound) in BUCKET_BOUNDS.iter().enumerate() {
            let nanos = u64::try_from(Duration::from_secs_f64(*bound).as_nanos()).unwrap();
            assert_eq!(nanos, FIRST_BOUND_NANOS << place, "the bounds are what the logarithm takes them for");
            assert_eq!((bucket_index(nanos), bucket_index(nanos + 1)), (place, place + 1), "{bound} s");
        }
        assert_eq!(bucket_index(u64::MAX), BUCKET_BOUNDS.len());
    }

    #[test]
    fn recorded_durations_are_read_back() {
        let durations = DurationHistograms::new(2);
        for time in [Duration::from_micros(50), Duration::from_micros(51), Duration::from_secs(3_600)] {
            durations.record(1, time);
        }
        let told = durations.read(1);
        assert_eq!((told.buckets[0], told.buckets[1], told.buckets[BUCKET_BOUNDS.len()]), (1, 1, 1));
        assert_eq!(told.count(), 3);
        assert!((told.sum - 3_600.000_101).abs() < 1e-9, "{}", told.sum);
        assert_eq!(durations.read(0), Distribution::default());
    }
}
