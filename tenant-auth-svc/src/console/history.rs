//! What happened in the last hour, in memory.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::live::ticks;
use crate::domain::{
    clock::{Moment, SharedClock, UnixMillis},
    store::Lane,
    verdict::Source,
};

/// The time between two samples.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);
/// The number of samples: those of an hour.
pub(super) const SAMPLES: usize = 360;
/// How often it is checked whether a sample is due. By the clock of the process, so that tests can move it.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The time over which answered requests are counted.
const ANSWERED_WINDOW: Duration = Duration::from_secs(60);

/// The results of requests, in the order of [`Reading::requests`].
pub(super) const RESULTS: [&str; 4] = ["admitted", "denied", "not decided", "refused as overload"];
/// The first result that is no answer.
const FIRST_UNANSWERED: usize = 2;

/// What the counters of the process say at one time: since its start, unless stated otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Decisions about keys and sessions: admitted, denied, not decided because of a failure; and requests refused because of
    /// overload.
    pub requests: [u64; RESULTS.len()],
    /// The duration of requests: the number up to each of these bounds in seconds and above the one before. The last bound is
    /// infinite.
    pub durations: Vec<(f64, u64)>,
    /// Answers by source, in the order of [`Source::ALL`].
    pub sources: [u64; Source::ALL.len()],
    /// Calls of the database by lane, in the order of [`Lane::ALL`].
    pub database_calls: [u64; Lane::ALL.len()],
    /// The time since the change log was read, now; `None` if it is not followed.
    pub feed_lag: Option<Duration>,
    /// The age of the oldest answer of the last minute.
    pub oldest_answer: Option<Duration>,
    /// Entries of the caches, now.
    pub cache_entries: u64,
    /// Usage events that are not committed yet, now.
    pub usage_queue: u64,
}

/// Reads the counters.
pub type Readings = Arc<dyn Fn() -> Reading + Send + Sync>;

/// What happened in one interval. Rates are per second, times in seconds. What there is nothing of is not a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    /// The end of the interval.
    pub(super) at: UnixMillis,
    pub(super) requests: [f32; RESULTS.len()],
    pub(super) median: f32,
    pub(super) p99: f32,
    pub(super) sources: [f32; Source::ALL.len()],
    pub(super) database_calls: [f32; Lane::ALL.len()],
    pub(super) feed_lag: f32,
    pub(super) oldest_answer: f32,
    pub(super) cache_entries: f32,
    pub(super) usage_queue: f32,
    /// Requests that were answered, and all, since the start.
    answered: (u64, u64),
    monotonic: Duration,
}

/// How many of the requests of the last minute were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) answered: u64,
    pub(super) all: u64,
}

impl Answered {
    /// The share that was answered; `None` without requests. Rounded neither up to all nor down to none.
    pub(super) fn per_10_000(self) -> Option<u64> {
        let Self { answered, all } = self;
        let share = u64::try_from(u128::from(answered) * 10_000 / u128::from(all).max(1)).unwrap_or(10_000);
        let share = if answered > 0 { share.max(1) } else { share };
        (all > 0).then_some(share)
    }
}

/// The samples of the last hour: 360 of 136 bytes, which is 48 KiB. Each takes some thousand loads of counters.
pub(super) struct History {
    clock: SharedClock,
    readings: Readings,
    samples: Mutex<Samples>,
}

struct Samples {
    all: VecDeque<Sample>,
    /// The reading at the end of the newest sample, or at the start.
    last: (Moment, Reading),
}

impl History {
    /// A history that begins now.
    pub(super) fn new(clock: SharedClock, readings: Readings) -> Arc<Self> {
        let last = (Moment::now(&clock), readings());
        let samples = Mutex::new(Samples { all: VecDeque::with_capacity(SAMPLES), last });
        Arc::new(Self { clock, readings, samples })
    }

    /// Takes samples for as long as it is polled.
    pub(super) async fn take_samples(&self) {
        let mut ticks = ticks(CHECK_INTERVAL);
        loop {
            ticks.tick().await;
            self.take_sample_if_due();
        }
    }

    fn take_sample_if_due(&self) {
        let now = Moment::now(&self.clock);
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let (last_at, last) = &samples.last;
        let elapsed = now.since(*last_at);
        if elapsed < INTERVAL {
            return;
        }
        let reading = (self.readings)();
        let sample = Sample::between(last, &reading, elapsed, now);
        if samples.all.len() == SAMPLES {
            samples.all.pop_front();
        }
        samples.all.push_back(sample);
        samples.last = (now, reading);
    }

    /// The samples, the oldest first.
    pub(super) fn samples(&self) -> Vec<Sample> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).all.iter().copied().collect()
    }

    /// The newest sample.
    pub(super) fn newest(&self) -> Option<Sample> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).all.back().copied()
    }

    /// How many of the requests of the last minute were answered, up to now.
    pub(super) fn answered(&self) -> Answered {
        let (answered, all) = answered(&(self.readings)());
        let now = self.clock.monotonic();
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |sample: &&Sample| now.saturating_sub(sample.monotonic) >= ANSWERED_WINDOW;
        // Without a sample of a minute ago, the process is younger: then all that it ever had count.
        let (before, all_before) = samples.all.iter().rev().find(is_old).map_or((0, 0), |old| old.answered);
        Answered { answered: answered.saturating_sub(before), all: all.saturating_sub(all_before) }
    }
}

fn answered(reading: &Reading) -> (u64, u64) {
    (reading.requests.iter().take(FIRST_UNANSWERED).sum(), reading.requests.iter().sum())
}

impl Sample {
    fn between(before: &Reading, after: &Reading, elapsed: Duration, now: Moment) -> Self {
        let (median, p99) = (quantile(before, after, 0.5), quantile(before, after, 0.99));
        Self {
            at: now.wall,
            requests: rates(&before.requests, &after.requests, elapsed),
            median,
            p99,
            sources: rates(&before.sources, &after.sources, elapsed),
            database_calls: rates(&before.database_calls, &after.database_calls, elapsed),
            feed_lag: seconds(after.feed_lag),
            oldest_answer: seconds(after.oldest_answer),
            cache_entries: number(after.cache_entries),
            usage_queue: number(after.usage_queue),
            answered: answered(after),
            monotonic: now.monotonic,
        }
    }
}

fn rates<const N: usize>(before: &[u64; N], after: &[u64; N], elapsed: Duration) -> [f32; N] {
    let mut rates = [0.0; N];
    for ((rate, before), after) in rates.iter_mut().zip(before).zip(after) {
        *rate = number(after.saturating_sub(*before)) / elapsed.as_secs_f32();
    }
    rates
}

fn seconds(time: Option<Duration>) -> f32 {
    time.map_or(f32::NAN, |time| time.as_secs_f32())
}

/// Precise enough for a plot.
#[allow(clippy::cast_precision_loss, reason = "a plot shows three digits")]
fn number(count: u64) -> f32 {
    count as f32
}

/// The duration that a share of the requests between two readings did not exceed, in seconds; interpolated within a bucket.
fn quantile(before: &Reading, after: &Reading, share: f32) -> f32 {
    let count_before = |place: usize| before.durations.get(place).map_or(0, |(_, count)| *count);
    let counts = after.durations.iter().enumerate();
    let counts: Vec<_> =
        counts.map(|(place, (bound, count))| (*bound, count.saturating_sub(count_before(place)))).collect();
    let wanted = share * number(counts.iter().map(|(_, count)| count).sum());
    if wanted <= 0.0 {
        return f32::NAN;
    }
    let (mut below, mut lower) = (0.0, 0.0);
    for (bound, count) in counts {
        // Nothing is known above the last finite bound.
        #[allow(clippy::cast_possible_truncation, reason = "a plot shows three digits")]
        let upper = if bound.is_finite() { bound as f32 } else { lower };
        let count = number(count);
        if below + count >= wanted && count > 0.0 {
            return lower + (upper - lower) * (wanted - below) / count;
        }
        below += count;
        lower = upper;
    }
    lower
}

#[cfg(test)]
mod tests;
