//! Injected time: no other part of the service reads the operating system's clock for a decision.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

/// A point in time, in milliseconds since the Unix epoch, as stored in the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// The latest time that every client can represent: the end of the year 9999.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// Returns the time since an earlier point; zero if that point is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or_default())
    }

    /// Returns this time plus a duration, at most [`Self::MAX`].
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis).min(Self::MAX.0))
    }
}

/// A point in time or none, in 8 bytes instead of 16, for records that are kept by the million.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OptionalMillis(i64);

impl OptionalMillis {
    /// No point in time. The earliest number stands for it.
    pub const NONE: Self = Self(i64::MIN);

    /// Returns the point in time, if there is one.
    #[must_use]
    pub fn get(self) -> Option<UnixMillis> {
        (self != Self::NONE).then_some(UnixMillis(self.0))
    }
}

impl From<Option<UnixMillis>> for OptionalMillis {
    fn from(at: Option<UnixMillis>) -> Self {
        // A time that somebody stored in the age of no key stays one.
        at.map_or(Self::NONE, |at| Self(at.0.max(i64::MIN + 1)))
    }
}

impl fmt::Debug for OptionalMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// A point in time on both clocks: one for display, one for durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// By the wall clock.
    pub wall: UnixMillis,
    /// By the monotonic clock.
    pub monotonic: Duration,
}

impl Moment {
    /// Returns the current time.
    #[must_use]
    pub fn now(clock: &SharedClock) -> Self {
        Self { wall: clock.now(), monotonic: clock.monotonic() }
    }

    /// Returns the time `ago` before this one, assuming that the wall clock did not jump.
    #[must_use]
    pub fn before(self, ago: Duration) -> Self {
        let millis = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        Self {
            wall: UnixMillis(self.wall.0.saturating_sub(millis)),
            monotonic: self.monotonic.saturating_sub(ago),
        }
    }

    /// Returns the time since an earlier moment, independent of jumps of the wall clock.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.monotonic.saturating_sub(earlier.monotonic)
    }
}

/// A source of time.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// Returns the wall-clock time, for times that people and databases agree on. It may jump.
    fn now(&self) -> UnixMillis;

    /// Returns the time since a fixed point in this process, for durations. It never goes back.
    fn monotonic(&self) -> Duration;
}

/// A clock that is shared by its users.
pub type SharedClock = Arc<dyn Clock>;

/// The operating system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// Creates a clock whose monotonic time starts now.
    #[must_use]
    pub fn shared() -> SharedClock {
        Arc::new(Self { started: Instant::now() })
    }
}

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        UnixMillis(0).plus(since_epoch.unwrap_or_default())
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A clock that moves only on request, for tests and simulations.
#[derive(Debug)]
pub struct ManualClock {
    wall: AtomicI64,
    monotonic_millis: AtomicU64,
}

impl ManualClock {
    /// Creates a clock that shows `now` until it is moved.
    #[must_use]
    pub fn at(now: UnixMillis) -> Arc<Self> {
        Arc::new(Self { wall: AtomicI64::new(now.0), monotonic_millis: AtomicU64::new(0) })
    }

    /// Advances both clocks.
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.wall.fetch_add(i64::try_from(millis).unwrap_or(i64::MAX), Ordering::SeqCst);
        self.monotonic_millis.fetch_add(millis, Ordering::SeqCst);
    }

    /// Sets the wall clock, as an operator or NTP would. The monotonic clock does not change.
    pub fn jump_to(&self, now: UnixMillis) {
        self.wall.store(now.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.wall.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_millis.load(Ordering::SeqCst))
    }
}
