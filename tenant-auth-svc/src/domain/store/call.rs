//! What a database call is for, and how long it may take.

use std::time::{Duration, Instant};

/// What a database call is for. Each lane has an allowance of its own, so that none can starve another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Reloading keys that are in memory.
    Known,
    /// Looking for keys that are not: a flood of made-up ones must not hold up the others.
    Unknown,
    /// Binding and ending sessions.
    Sessions,
    /// Managing tenants and keys.
    Admin,
    /// Reading the change log.
    Feed,
    /// Migrations and start-up checks.
    Maintenance,
}

impl Lane {
    /// Every lane.
    pub const ALL: [Self; 6] =
        [Self::Known, Self::Unknown, Self::Sessions, Self::Admin, Self::Feed, Self::Maintenance];

    /// As logs and metrics write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Unknown => "unknown",
            Self::Sessions => "sessions",
            Self::Admin => "admin",
            Self::Feed => "feed",
            Self::Maintenance => "maintenance",
        }
    }
}

/// The circumstances of a database call.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// What it is for.
    pub lane: Lane,
    /// When nobody waits for it any longer. The database hop may give up sooner, never later.
    pub deadline: Instant,
}

impl Call {
    /// A call that may take this long.
    #[must_use]
    pub fn within(lane: Lane, time: Duration) -> Self {
        Self { lane, deadline: Instant::now() + time }
    }
}
