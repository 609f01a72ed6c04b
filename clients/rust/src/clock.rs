//! What time it is, for what is kept in memory.

use std::{
    fmt,
    time::{Instant, SystemTime},
};

/// Tells the near-cache the time; see [`ClientBuilder::clock`](crate::ClientBuilder::clock). Tests bring their own.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// A moment that only moves forward: ages and lifetimes are counted with it.
    fn now(&self) -> Instant;

    /// The time of day: the ends that the service gives keys and sessions are compared with it.
    fn wall(&self) -> SystemTime;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}
