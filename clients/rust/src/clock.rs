//! The clock of the near-cache.

use std::{fmt, time::Duration};

/// A clock for the near-cache; see [`ClientBuilder::clock`](crate::ClientBuilder::clock). Tests can supply
/// their own.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Returns the time since a fixed moment. It never goes backwards: ages and lifetimes are computed from
    /// it.
    fn now(&self) -> Duration;

    /// Returns the maximum lag of this clock. The lifetime of answers is shortened by it.
    fn lag(&self) -> Duration {
        Duration::ZERO
    }
}

/// The system clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SystemClock;

/// Reads the time of the kernel's last tick: this takes a fifth of the time of a nanosecond read, which would
/// take half the time of a cache hit.
#[cfg(target_os = "linux")]
impl Clock for SystemClock {
    fn now(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
        Duration::new(
            u64::try_from(time.tv_sec).unwrap_or_default(),
            u32::try_from(time.tv_nsec).unwrap_or_default(),
        )
    }

    /// The longest tick is 10 ms; a virtual machine may miss some.
    fn lag(&self) -> Duration {
        Duration::from_millis(50)
    }
}

#[cfg(not(target_os = "linux"))]
impl Clock for SystemClock {
    fn now(&self) -> Duration {
        static START: std::sync::LazyLock<std::time::Instant> =
            std::sync::LazyLock::new(std::time::Instant::now);
        START.elapsed()
    }
}

/// A timestamp of a [`Clock`] in nanoseconds: half the size of a `Duration`, and fast to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) u64);

impl Moment {
    #[inline]
    pub(crate) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(nanos(time)))
    }

    /// Returns the time since `earlier`; zero if `earlier` is later.
    #[inline]
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl From<Duration> for Moment {
    #[inline]
    fn from(time: Duration) -> Self {
        Self(nanos(time))
    }
}

#[inline]
fn nanos(time: Duration) -> u64 {
    // A `u64` of nanoseconds covers more than five centuries.
    time.as_secs().saturating_mul(1_000_000_000).saturating_add(time.subsec_nanos().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_clock_moves_forward() {
        let clock = SystemClock;
        let first = clock.now();
        assert!(clock.now() >= first);
    }

    #[test]
    fn moment_arithmetic_saturates() {
        let (early, late) = (Moment(5), Moment(u64::MAX));
        assert_eq!(late.after(Duration::MAX), late);
        assert_eq!(
            (early.since(late), late.since(early)),
            (Duration::ZERO, Duration::from_nanos(u64::MAX - 5))
        );
    }
}
