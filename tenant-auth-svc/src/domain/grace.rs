//! The grace in force: what is configured, or what an operator has set for a limited time.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The longest grace that can be configured or set.
pub const MAX_GRACE: Duration = Duration::from_secs(7 * 86_400);
/// The longest time for which a grace can be set.
pub const MAX_OVERRIDE_DURATION: Duration = Duration::from_secs(7 * 86_400);
/// How many bits hold a grace in seconds: twelve days.
const GRACE_BITS: u32 = 20;

/// How long entries may answer while the database does not. All memories of a replica share one.
#[derive(Debug)]
pub struct Grace {
    configured: Duration,
    /// The second of the monotonic clock at which an override ends, over the grace in seconds until then; zero for none. One
    /// number, so that no reader sees half of a change.
    override_bits: AtomicU64,
}

impl Grace {
    /// This one, until another is set.
    #[must_use]
    pub fn new(configured: Duration) -> Self {
        Self { configured, override_bits: AtomicU64::new(0) }
    }

    /// What is configured.
    #[must_use]
    pub fn configured(&self) -> Duration {
        self.configured
    }

    /// The one in force at a moment of the monotonic clock.
    #[must_use]
    pub fn at(&self, now: Duration) -> Duration {
        self.override_at(now).map_or(self.configured, |(grace, _)| grace)
    }

    /// The one that was set and is in force at a moment, and when that ends.
    #[must_use]
    pub fn override_at(&self, now: Duration) -> Option<(Duration, Duration)> {
        // The rule, and one read of what nobody writes.
        let set = self.override_bits.load(Ordering::Relaxed);
        let ends = Duration::from_secs(set >> GRACE_BITS);
        (now < ends).then(|| (Duration::from_secs(set & ((1 << GRACE_BITS) - 1)), ends))
    }

    /// Another one until a moment of the monotonic clock. Both are rounded up to seconds; a grace is at most [`MAX_GRACE`].
    pub fn set_override(&self, grace: Duration, until: Duration) {
        let grace = seconds(grace.min(MAX_GRACE));
        self.override_bits.store(seconds(until) << GRACE_BITS | grace, Ordering::Relaxed);
    }

    /// What is configured from now on.
    pub fn clear_override(&self) {
        self.override_bits.store(0, Ordering::Relaxed);
    }
}

fn seconds(time: Duration) -> u64 {
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
        assert_eq!(grace.at(hours(3)), hours(4), "its time is over");
        grace.set_override(Duration::ZERO, hours(5));
        assert_eq!(grace.at(hours(4)), Duration::ZERO, "shorter is as good");
        grace.clear_override();
        assert_eq!((grace.at(hours(4)), grace.override_at(hours(4))), (hours(4), None));
        grace.set_override(MAX_GRACE * 2, hours(1_000_000));
        assert_eq!(grace.at(hours(6)), MAX_GRACE);
    }
}
