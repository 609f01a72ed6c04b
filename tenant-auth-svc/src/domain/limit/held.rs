//! What a replica holds of one window.

use std::time::Duration;

use crate::domain::clock::{Moment, UnixMillis};

/// A part of a limit that the database has counted and that this replica alone may spend, in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldLease {
    /// The window.
    pub window_start: UnixMillis,
    /// What can be taken.
    pub remaining: u64,
    /// What is given back with the next exchange, and can no longer be taken.
    pub returning: u64,
    /// What was taken since the last exchange.
    pub used: u64,
    /// What waits for the outcome of an exchange: ids and reservations.
    pub pending: u64,
    /// When something was last taken.
    pub last_use: Duration,
    /// Before that time by the monotonic clock, nothing may be taken: the window has not begun.
    pub usable_from: Duration,
    /// From then on nothing may be taken, on either clock: the monotonic clock of a suspended machine stands still, and the
    /// wall clock can be set back.
    pub deadline: Deadline,
}

/// A point in time on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// By the monotonic clock.
    pub monotonic: Duration,
    /// By the wall clock.
    pub wall: UnixMillis,
}

impl Deadline {
    /// Of a lease that never ends.
    pub const NEVER: Self = Self { monotonic: Duration::MAX, wall: UnixMillis::MAX };

    /// The time that is `after` later than `start`.
    #[must_use]
    pub fn after(start: Moment, after: Duration) -> Self {
        Self { monotonic: start.monotonic.saturating_add(after), wall: start.wall.plus(after) }
    }

    /// Whether it has passed by either clock.
    #[must_use]
    pub fn has_passed(&self, now: Moment) -> bool {
        now.monotonic >= self.monotonic || (now.wall >= self.wall && self.wall < UnixMillis::MAX)
    }
}

impl HeldLease {
    /// An empty lease.
    #[must_use]
    pub fn empty(window_start: UnixMillis, now: Duration, deadline: Deadline) -> Self {
        Self {
            window_start,
            remaining: 0,
            returning: 0,
            used: 0,
            pending: 0,
            last_use: now,
            usable_from: Duration::ZERO,
            deadline,
        }
    }

    /// From now on nothing of it may be taken: it is given back.
    pub fn stop(&mut self) {
        self.returning += std::mem::take(&mut self.remaining);
    }

    /// Adds what was held of the same window.
    pub fn add(&mut self, other: &Self) {
        self.remaining += other.remaining;
        self.returning += other.returning;
        self.used += other.used;
        self.pending += other.pending;
        self.last_use = self.last_use.max(other.last_use);
    }

    /// Whether there is nothing to take and nothing to report.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remaining == 0 && self.returning == 0 && self.used == 0 && self.pending == 0
    }
}
