//! When the feed was last heard, and how far this replica's clock is from the database's.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use super::LIVENESS_TIMEOUT;
use crate::domain::clock::UnixMillis;

/// Above this a clock counts as wrong: times that are compared with those of other replicas, and ends of keys, are wrong by it.
pub const MAX_CLOCK_OFFSET: Duration = Duration::from_secs(5);
/// Stands for a clock that was never compared.
const NEVER_COMPARED: i64 = i64::MIN;

/// When the feed was last heard, and what it said about the time.
#[derive(Debug)]
pub struct FeedLiveness {
    last_read_millis: AtomicU64,
    /// This replica's clock less the database's, in milliseconds.
    clock_offset: AtomicI64,
}

impl Default for FeedLiveness {
    fn default() -> Self {
        Self { last_read_millis: AtomicU64::new(0), clock_offset: AtomicI64::new(NEVER_COMPARED) }
    }
}

impl FeedLiveness {
    /// When the feed was last heard, by the monotonic clock; `None` when it never was.
    #[must_use]
    pub fn last_read_at(&self) -> Option<Duration> {
        // Zero stands for never, so that moments are kept one millisecond later than they are.
        self.last_read_millis.load(Ordering::Acquire).checked_sub(1).map(Duration::from_millis)
    }

    /// Whether the feed was heard within [`SILENCE`] of a moment of the monotonic clock.
    #[must_use]
    pub fn is_alive(&self, now: Duration) -> bool {
        self.last_read_at().is_some_and(|at| now.saturating_sub(at) <= LIVENESS_TIMEOUT)
    }

    /// This replica's clock less the database's, in milliseconds, give or take half of a read; `None` before the first one.
    #[must_use]
    pub fn clock_offset(&self) -> Option<i64> {
        Some(self.clock_offset.load(Ordering::Relaxed)).filter(|offset| *offset != NEVER_COMPARED)
    }

    pub(super) fn record_read(&self, at: Duration) {
        let millis = u64::try_from(at.as_millis()).unwrap_or(u64::MAX - 1);
        self.last_read_millis.store(millis + 1, Ordering::Release);
    }

    /// Between two moments of this replica's clock, the database's showed this.
    pub(super) fn compare_clocks(&self, before: UnixMillis, after: UnixMillis, database: UnixMillis) {
        let middle = before.0 + (after.0 - before.0) / 2;
        let offset = middle.saturating_sub(database.0).max(NEVER_COMPARED + 1);
        let last = self.clock_offset.swap(offset, Ordering::Relaxed);
        if is_clock_offset_excessive(offset) && !(last != NEVER_COMPARED && is_clock_offset_excessive(last)) {
            tracing::error!(
                offset_ms = offset,
                "this machine's clock is not the database's: keys and sessions end at the wrong moment here"
            );
        }
    }
}

/// Whether an offset is that of a clock that is wrong.
#[must_use]
pub fn is_clock_offset_excessive(offset: i64) -> bool {
    u128::from(offset.unsigned_abs()) > MAX_CLOCK_OFFSET.as_millis()
}
