//! The age of the oldest answer that the cache gave recently.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Length of the window over which one maximum is kept.
const WINDOW_DURATION: Duration = Duration::from_secs(10);
/// One more than a minute needs, for the current window, which is incomplete.
const WINDOW_COUNT: usize = 7;
/// Bits for the age in milliseconds: 49 days. The longest grace is one week.
const AGE_BITS: u32 = 32;

/// The maximum age in each of the recent windows. Recording takes no lock, and writes only a new maximum.
#[derive(Debug, Default)]
pub struct OldestAnswerAge {
    /// Each value has the window number (from 1) in the high bits and the age in the low bits, so a later
    /// window is greater than any earlier one.
    windows: [AtomicU64; WINDOW_COUNT],
}

impl OldestAnswerAge {
    /// Records that an answer of this age was given at `now` on the monotonic clock.
    pub fn record(&self, age: Duration, now: Duration) {
        let number = window_number(now);
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX).min((1 << AGE_BITS) - 1);
        let value = (number << AGE_BITS) | age;
        let Some(window) = self.windows.get(window_slot(number)) else { return };
        // Most answers are younger than the maximum: threads share the cache line as long as none of them
        // writes it.
        if window.load(Ordering::Relaxed) < value {
            window.fetch_max(value, Ordering::Relaxed);
        }
    }

    /// Returns the maximum age recorded in the minute before `now` on the monotonic clock, or up to ten
    /// seconds earlier; `None` if nothing was recorded.
    #[must_use]
    pub fn within_last_minute(&self, now: Duration) -> Option<Duration> {
        let newest = window_number(now);
        let recent = self.windows.iter().filter_map(|window| {
            let value = window.load(Ordering::Relaxed);
            let number = value >> AGE_BITS;
            // A window number of zero was never recorded.
            let counts = number > 0 && number + WINDOW_COUNT as u64 > newest;
            counts.then_some(value & ((1 << AGE_BITS) - 1))
        });
        recent.max().map(Duration::from_millis)
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
        assert_eq!(oldest.within_last_minute(seconds(0)), None, "nothing was recorded");
        oldest.record(seconds(0), seconds(0));
        assert_eq!(oldest.within_last_minute(seconds(0)), Some(seconds(0)), "an age of zero is recorded");
        oldest.record(seconds(300), seconds(9));
        oldest.record(seconds(4), seconds(9));
        oldest.record(seconds(7), seconds(30));
        for second in 9..=69 {
            assert_eq!(oldest.within_last_minute(seconds(second)), Some(seconds(300)), "at {second} s");
        }
        assert_eq!(oldest.within_last_minute(seconds(70)), Some(seconds(7)));
        assert_eq!(oldest.within_last_minute(seconds(99)), Some(seconds(7)));
        assert_eq!(oldest.within_last_minute(seconds(100)), None, "nothing was recorded for a minute");
        // The slot holds an older window with a greater maximum.
        oldest.record(seconds(1), seconds(75));
        assert_eq!(oldest.within_last_minute(seconds(75)), Some(seconds(7)));
        assert_eq!(oldest.within_last_minute(seconds(130)), Some(seconds(1)));
    }

    #[test]
    fn late_record_does_not_hide_a_newer_window() {
        let oldest = OldestAnswerAge::default();
        oldest.record(seconds(2), seconds(70));
        // A delayed thread writes to the same slot, for an older window.
        oldest.record(seconds(500), seconds(5));
        assert_eq!(oldest.within_last_minute(seconds(71)), Some(seconds(2)));
        oldest.record(Duration::MAX, seconds(72));
        assert_eq!(
            oldest.within_last_minute(seconds(72)),
            Some(Duration::from_millis((1 << 32) - 1)),
            "the maximum age"
        );
        assert_eq!(
            oldest.within_last_minute(seconds(140)),
            None,
            "the age does not overflow into the window number"
        );
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
