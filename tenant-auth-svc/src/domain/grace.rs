//! The outage grace in force: the configured one, or an override that an operator has set for a limited time.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The longest grace that can be configured or set.
pub const MAX_GRACE: Duration = Duration::from_secs(7 * 86_400);
/// The maximum duration of an override.
pub const MAX_OVERRIDE_DURATION: Duration = Duration::from_secs(7 * 86_400);
/// The number of bits of a grace in seconds; enough for twelve days.
const GRACE_BITS: u32 = 20;

/// How long cached entries may be served while the database fails. All caches of a replica share one value.
#[derive(Debug)]
pub struct Grace {
    configured: Duration,
    /// The override: in the high bits the monotonic time at which it ends, in the low bits the grace, both in
    /// seconds. Zero if there is none. It is one number, so that no reader sees a partial update.
    override_bits: AtomicU64,
}

impl Grace {
    /// Creates the grace from the configured one, without an override.
    #[must_use]
    pub fn new(configured: Duration) -> Self {
        Self { configured, override_bits: AtomicU64::new(0) }
    }

    /// Returns the configured grace.
    #[must_use]
    pub fn configured(&self) -> Duration {
        self.configured
    }

    /// Returns the grace in force at a monotonic time.
    #[must_use]
    pub fn at(&self, now: Duration) -> Duration {
        self.override_at(now).map_or(self.configured, |(grace, _)| grace)
    }

    /// Returns the override in force at a monotonic time, and when it ends.
    #[must_use]
    pub fn override_at(&self, now: Duration) -> Option<(Duration, Duration)> {
        // Every lookup reads this. It is written only when an operator sets or clears an override.
        let bits = self.override_bits.load(Ordering::Relaxed);
        let ends_at = Duration::from_secs(bits >> GRACE_BITS);
        (now < ends_at).then(|| (Duration::from_secs(bits & ((1 << GRACE_BITS) - 1)), ends_at))
    }

    /// Sets an override until a monotonic time. Both values are rounded up to seconds; the grace is limited
    /// to [`MAX_GRACE`].
    pub fn set_override(&self, grace: Duration, until: Duration) {
        let grace = round_up_to_seconds(grace.min(MAX_GRACE));
        self.override_bits.store(round_up_to_seconds(until) << GRACE_BITS | grace, Ordering::Relaxed);
    }

    /// Removes the override: the configured grace is in force again.
    pub fn clear_override(&self) {
        self.override_bits.store(0, Ordering::Relaxed);
    }
}

fn round_up_to_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(hours: u64) -> Duration {
        Duration::from_secs(hours * 3_600)
    }

    #[test]
    fn grace_override_expires_and_can_be_cleared() {
        let grace = Grace::new(hours(4));
        assert_eq!(grace.at(hours(1)), hours(4));
        grace.set_override(MAX_GRACE, hours(3));
        assert_eq!(grace.override_at(hours(2)), Some((MAX_GRACE, hours(3))));
        assert_eq!(grace.at(hours(3)), hours(4), "the override has ended");
        grace.set_override(Duration::ZERO, hours(5));
        assert_eq!(
            grace.at(hours(4)),
            Duration::ZERO,
            "an override can be shorter than the configured grace"
        );
        grace.clear_override();
        assert_eq!((grace.at(hours(4)), grace.override_at(hours(4))), (hours(4), None));
        grace.set_override(MAX_GRACE * 2, hours(1_000_000));
        assert_eq!(grace.at(hours(6)), MAX_GRACE);
    }
}
