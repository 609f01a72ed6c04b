//! How old the oldest answer was that memory gave lately.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Over how much time one maximum is kept.
const WINDOW: Duration = Duration::from_secs(10);
/// One more than a minute has, for the window that has only begun.
const WINDOWS: usize = 7;
/// How many bits hold the age in milliseconds: 49 days, and no grace is longer than one week.
const AGE_BITS: u32 = 32;

/// The greatest age of each of the last windows. Noting takes no lock, and writes nothing unless it is a new maximum.
#[derive(Debug, Default)]
pub struct Oldest {
    /// The number of the window, from 1, over the age in it: a later window outweighs whatever an earlier one left.
    windows: [AtomicU64; WINDOWS],
}

impl Oldest {
    /// Notes that an answer of an age was given at a moment of the monotonic clock.
    pub fn note(&self, age: Duration, now: Duration) {
        let number = number(now);
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX).min((1 << AGE_BITS) - 1);
        let noted = (number << AGE_BITS) | age;
        let Some(window) = self.windows.get(slot(number)) else { return };
        // Most answers are younger than the oldest one: readers share what writers would pass around.
        if window.load(Ordering::Relaxed) < noted {
            window.fetch_max(noted, Ordering::Relaxed);
        }
    }

    /// The greatest age noted in the minute before a moment of the monotonic clock, or up to ten seconds longer ago;
    /// `None` when nothing was.
    #[must_use]
    pub fn within_last_minute(&self, now: Duration) -> Option<Duration> {
        let newest = number(now);
        let lately = self.windows.iter().filter_map(|window| {
            let noted = window.load(Ordering::Relaxed);
            let number = noted >> AGE_BITS;
            // A number of zero was never noted.
            let counts = number > 0 && number + WINDOWS as u64 > newest;
            counts.then_some(noted & ((1 << AGE_BITS) - 1))
        });
        lately.max().map(Duration::from_millis)
    }
}

fn number(now: Duration) -> u64 {
    now.as_secs() / WINDOW.as_secs() + 1
}

fn slot(number: u64) -> usize {
    usize::try_from(number % WINDOWS as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_oldest_counts_for_a_minute_and_ten_seconds_at_most() {
        let oldest = Oldest::default();
        assert_eq!(oldest.within_last_minute(seconds(0)), None, "nothing was noted");
        oldest.note(seconds(0), seconds(0));
        assert_eq!(oldest.within_last_minute(seconds(0)), Some(seconds(0)), "an age of nothing is noted");
        oldest.note(seconds(300), seconds(9));
        oldest.note(seconds(4), seconds(9));
        oldest.note(seconds(7), seconds(30));
        for second in 9..=69 {
            assert_eq!(oldest.within_last_minute(seconds(second)), Some(seconds(300)), "at {second} s");
        }
        assert_eq!(oldest.within_last_minute(seconds(70)), Some(seconds(7)));
        assert_eq!(oldest.within_last_minute(seconds(99)), Some(seconds(7)));
        assert_eq!(oldest.within_last_minute(seconds(100)), None, "an idle minute forgets");
        // Into a window that holds an old maximum, greater than the new one.
        oldest.note(seconds(1), seconds(75));
        assert_eq!(oldest.within_last_minute(seconds(75)), Some(seconds(7)));
        assert_eq!(oldest.within_last_minute(seconds(130)), Some(seconds(1)));
    }

    #[test]
    fn an_answer_noted_late_neither_lasts_nor_hides_a_newer_one() {
        let oldest = Oldest::default();
        oldest.note(seconds(2), seconds(70));
        // Of a thread that was held up: the same slot, a window that is over.
        oldest.note(seconds(500), seconds(5));
        assert_eq!(oldest.within_last_minute(seconds(71)), Some(seconds(2)));
        oldest.note(Duration::MAX, seconds(72));
        assert_eq!(
            oldest.within_last_minute(seconds(72)),
            Some(Duration::from_millis((1 << 32) - 1)),
            "at most"
        );
        assert_eq!(oldest.within_last_minute(seconds(140)), None, "and it overflows into no later window");
    }

    #[test]
    fn of_many_threads_none_is_lost() {
        let oldest = Oldest::default();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let oldest = &oldest;
                scope.spawn(move || {
                    for age in 0..1_000 {
                        oldest.note(Duration::from_millis(age * 4 + thread), seconds(3));
                    }
                });
            }
        });
        assert_eq!(oldest.within_last_minute(seconds(3)), Some(Duration::from_millis(3_999)));
    }
}
