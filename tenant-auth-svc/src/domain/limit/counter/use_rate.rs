//! How fast a limit is used on this replica.

use std::time::Duration;

/// An exponentially weighted average of what is taken per second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct UseRate {
    per_second: f64,
    /// Taken since the last update.
    taken: u64,
    updated_at: Duration,
}

/// The time constant of the average.
const TIME_CONSTANT: Duration = Duration::from_secs(1);
/// The average is updated at most this often.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

impl UseRate {
    pub(super) fn add(&mut self, cost: u64) {
        self.taken = self.taken.saturating_add(cost);
    }

    /// Returns what is expected to be taken within a time.
    pub(super) fn expected_within(&mut self, time: Duration, now: Duration) -> u64 {
        self.update(now);
        // Saturates.
        (self.per_second * time.as_secs_f64()).ceil() as u64
    }

    fn update(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.updated_at);
        if elapsed < MIN_INTERVAL {
            return;
        }
        let weight = 1.0 - (-elapsed.as_secs_f64() / TIME_CONSTANT.as_secs_f64()).exp();
        let current = self.taken as f64 / elapsed.as_secs_f64();
        self.per_second += (current - self.per_second) * weight;
        if self.per_second < 0.01 {
            self.per_second = 0.0;
        }
        (self.taken, self.updated_at) = (0, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_follows_the_use_and_decays() {
        let mut rate = UseRate::default();
        for tenth in 1..=50 {
            rate.add(10);
            rate.update(Duration::from_millis(tenth * 100));
        }
        let expected = rate.expected_within(Duration::from_secs(2), Duration::from_secs(5));
        assert!((190..=201).contains(&expected), "{expected}");
        assert_eq!(rate.expected_within(Duration::from_secs(2), Duration::from_secs(60)), 0);
    }
}
