//! How old the oldest answer was that memory gave lately.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Over how much time one maximum is kept.
const WINDOW_DURATION: Duration = Duration::from_secs(10);
/// One more than a minute has, for the window that has only begun.
const WINDOW_COUNT: usize = 7;
/// How many bits hold the age in milliseconds: 49 days, and no grace is longer than one week.
const AGE_BITS: u32 = 32;

/// The greatest age of each of the last windows. Noting takes no lock, and writes nothing unless it is a new maximum.
#[derive(Debug, Default)]
pub struct OldestAnswerAge {
    /// The number of the window, from 1, over the age in it: a later window outweighs whatever an earlier one left.
    windows: [AtomicU64; WINDOW_COUNT],
}

impl OldestAnswerAge {
    /// Notes that an answer of an age was given at a moment of the monotonic clock.
    pub fn record(&self, age: Duration, now: Duration) {
        let number = window_number(now);
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX).min((1 << AGE_BITS) - 1);
        let noted = (number << AGE_BITS) | age;
        let Some(window) = self.windows.get(window_slot(number)) else { return };
        // Most answers are younger than the oldest one: readers share what writers would pass around.
        if window.load(Ordering::Relaxed) < noted {
            window.fetch_max(noted, Ordering::Relaxed);
        }
    }

    /// The greatest age noted in the minute before a moment of the monotonic clock, or up to ten seconds longer ago;
    /// `None` when nothing was.
    #[must_use]
    pub fn within_last_minute(&self, now: Duration) -> Option<Duration> {
        let newest = window_number(now);
        let lately = self.windows.iter().filter_map(|window| {
            let noted = window.load(Ordering::Relaxed);
            let number = noted >> AGE_BITS;
            // A number of zero was never noted.
            let counts = number > 0 && number + WINDOW_COUNT as u64 > newest;
            counts.then_some(noted & ((1 << AGE_BITS) - 1))
        });
        lately.max().map(Duration::from_millis)
    }
}

fn window_number(now: Duration) -> u64 {
    now.as_secs() / WINDOW_DURATION.as_secs() + 1
}

fn window_slot(number: u64) -> usize {
    usize::try_from(number % WINDOW_COUNT as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn oldest_age_is_kept_for_a_minute() {
        let oldest = OldestAnswerAge::default();
        assert_eq!(oldest.within_last_minute(seconds(0)), None, "nothing was noted");
        oldest.record(seconds(0), seconds(0));
        assert_eq!(oldest.within_last_minute(seconds(0)), Some(seconds(0)), "an age of nothing is noted");
        oldest.record(seconds(300), seconds(9));
        oldest.record(seconds(4), seconds(9));
        oldest.record(seconds(7), seconds(30));
        for second in 9..=69 {
            assert_eq!(oldest.within_last_minute(seconds(second)), Some(seconds(300)), "at {second} s");
        }
        assert_eq!(oldest.within_last_minute(seconds(70)), Some(seconds(7)));
        assert_eq!(oldest.within_last_minute(seconds(99)), Some(seconds(7)));
        assert_eq!(oldest.within_last_minute(seconds(100)), None, "an idle minute forgets");
        // Into a window that holds an old maximum, greater than the new one.
        oldest.record(seconds(1), seconds(75));
        assert_eq!(oldest.within_last_minute(seconds(75)), Some(seconds(7)));
        assert_eq!(oldest.within_last_minute(seconds(130)), Some(seconds(1)));
    }

    #[test]
    fn late_record_does_not_hide_a_newer_window() {
        let oldest = OldestAnswerAge::default();
        oldest.record(seconds(2), seconds(70));
        // Of a thread that was held up: the same slot, a window that is over.
        oldest.record(seconds(500), seconds(5));
        assert_eq!(oldest.within_last_minute(seconds(71)), Some(seconds(2)));
        oldest.record(Duration::MAX, seconds(72));
        assert_eq!(
            oldest.within_last_minute(seconds(72)),
            Some(Duration::from_millis((1 << 32) - 1)),
            "at most"
        );
        assert_eq!(oldest.within_last_minute(seconds(140)), None, "and it overflows into no later window");
    }

    #[test]
    fn concurrent_ages_are_not_lost() {
        let oldest = OldestAnswerAge::default();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let oldest = &oldest;
                scope.spawn(move || {
                    for age in 0..1_000 {
                        oldest.record(Duration::from_millis(age * 4 + thread), seconds(3));
                    }
                });
            }
        });
        assert_eq!(oldest.within_last_minute(seconds(3)), Some(Duration::from_millis(3_999)));
    }
}
