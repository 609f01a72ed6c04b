//! Duration histograms with fixed bounds, in slots of [`Counts`].

use std::time::Duration;

use super::counts::{Counts, Shard};

/// The upper bounds of the buckets, in seconds: 50 µs, doubled each time. Answers from the cache are in the first
/// buckets, a remote database in the middle, and requests that no caller waits for beyond the last bound.
pub const BUCKET_BOUNDS: [f64; 19] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_4, 0.000_8, 0.001_6, 0.003_2, 0.006_4, 0.012_8, 0.025_6, 0.051_2,
    0.102_4, 0.204_8, 0.409_6, 0.819_2, 1.638_4, 3.276_8, 6.553_6, 13.107_2,
];
/// The first bound.
const FIRST_BOUND_NANOS: u64 = 50_000;
/// The slot of the sum, in nanoseconds: after the buckets and the one above all bounds.
const SUM_SLOT: usize = BUCKET_BOUNDS.len() + 1;
/// Number of slots of one histogram.
pub const SLOTS_PER_HISTOGRAM: usize = SUM_SLOT + 1;

/// The content of a histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// Number of values in each bucket (not cumulative); the last bucket has no bound.
    pub buckets: [u64; BUCKET_BOUNDS.len() + 1],
    /// Sum of all values, in seconds.
    pub sum: f64,
}

impl Distribution {
    /// Number of values.
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

/// Records a duration in the histogram whose slots begin at `first`.
pub fn record(shard: &Shard, first: usize, time: Duration) {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    shard.add(first + bucket_index(nanos), 1);
    shard.add(first + SUM_SLOT, nanos);
}

/// Reads the histogram whose slots begin at `first`.
#[must_use]
pub fn read(counts: &Counts, first: usize) -> Distribution {
    let mut distribution = Distribution::default();
    for (index, bucket) in distribution.buckets.iter_mut().enumerate() {
        *bucket = counts.get(first + index);
    }
    distribution.sum = Duration::from_nanos(counts.get(first + SUM_SLOT)).as_secs_f64();
    distribution
}

/// The bounds double, so the index is a logarithm, and no search is needed.
fn bucket_index(nanos: u64) -> usize {
    let units = nanos.div_ceil(FIRST_BOUND_NANOS).max(1);
    let index = u64::BITS - (units - 1).leading_zeros();
    (index as usize).min(BUCKET_BOUNDS.len())
}

/// A row of histograms.
#[derive(Debug)]
pub struct DurationHistograms(Counts);

impl DurationHistograms {
    /// Creates `series` histograms.
    #[must_use]
    pub fn new(series: usize) -> Self {
        Self(Counts::new(series * SLOTS_PER_HISTOGRAM))
    }

    /// Records a duration in one of them.
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
        for (index, bound) in BUCKET_BOUNDS.iter().enumerate() {
            let nanos = u64::try_from(Duration::from_secs_f64(*bound).as_nanos()).unwrap();
            assert_eq!(nanos, FIRST_BOUND_NANOS << index, "the bounds must match the logarithm");
            assert_eq!((bucket_index(nanos), bucket_index(nanos + 1)), (index, index + 1), "{bound} s");
        }
        assert_eq!(bucket_index(u64::MAX), BUCKET_BOUNDS.len());
    }

    #[test]
    fn recorded_durations_are_read_back() {
        let durations = DurationHistograms::new(2);
        for time in [Duration::from_micros(50), Duration::from_micros(51), Duration::from_secs(3_600)] {
            durations.record(1, time);
        }
        let distribution = durations.read(1);
        assert_eq!(
            (distribution.buckets[0], distribution.buckets[1], distribution.buckets[BUCKET_BOUNDS.len()]),
            (1, 1, 1)
        );
        assert_eq!(distribution.count(), 3);
        assert!((distribution.sum - 3_600.000_101).abs() < 1e-9, "{}", distribution.sum);
        assert_eq!(durations.read(0), Distribution::default());
    }
}
