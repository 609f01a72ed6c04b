//! What time it is, for what is kept in memory.

use std::{fmt, time::Duration};

/// Tells the near-cache the time; see [`ClientBuilder::clock`](crate::ClientBuilder::clock). Tests bring their own.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time since some moment that stays the same. It only moves forward: ages and lifetimes are counted with it.
    fn now(&self) -> Duration;

    /// How far it may be behind. Answers are used for so much less.
    fn lag(&self) -> Duration {
        Duration::ZERO
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SystemClock;

/// As of the kernel's last tick: it is a fifth of the work of asking for the nanosecond, which would take half the time
/// of a hit.
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

/// A moment of a [`Clock`], in nanoseconds: half as large as a `Duration`, and quick to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) u64);

impl Moment {
    #[inline]
    pub(crate) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(nanos(time)))
    }

    /// Nothing when it is earlier.
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
    // More than five centuries.
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
