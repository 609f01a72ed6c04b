//! When the feed was last read, and the offset between this replica's clock and the database's.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use super::LIVENESS_TIMEOUT;
use crate::domain::clock::UnixMillis;

/// An offset above this counts as excessive: times that are compared with those of other replicas, and
/// expiries of keys, are off by it.
pub const MAX_CLOCK_OFFSET: Duration = Duration::from_secs(5);
/// Marks an offset that was never measured.
const NEVER_COMPARED: i64 = i64::MIN;

/// When the feed was last read, and the clock offset measured then.
#[derive(Debug)]
pub struct FeedLiveness {
    last_read_millis: AtomicU64,
    /// This replica's clock minus the database's, in milliseconds.
    clock_offset: AtomicI64,
}

impl Default for FeedLiveness {
    fn default() -> Self {
        Self { last_read_millis: AtomicU64::new(0), clock_offset: AtomicI64::new(NEVER_COMPARED) }
    }
}

impl FeedLiveness {
    /// Returns when the feed was last read, on the monotonic clock; `None` if it never was.
    #[must_use]
    pub fn last_read_at(&self) -> Option<Duration> {
        // Zero means never, so the stored value is one millisecond later than the time.
        self.last_read_millis.load(Ordering::Acquire).checked_sub(1).map(Duration::from_millis)
    }

    /// Whether the feed was read within [`LIVENESS_TIMEOUT`] before `now` on the monotonic clock.
    #[must_use]
    pub fn is_alive(&self, now: Duration) -> bool {
        self.last_read_at().is_some_and(|at| now.saturating_sub(at) <= LIVENESS_TIMEOUT)
    }

    /// Returns this replica's clock minus the database's, in milliseconds, with an error of half the duration
    /// of a read; `None` before the first read.
    #[must_use]
    pub fn clock_offset(&self) -> Option<i64> {
        Some(self.clock_offset.load(Ordering::Relaxed)).filter(|offset| *offset != NEVER_COMPARED)
    }

    pub(super) fn record_read(&self, at: Duration) {
        let millis = u64::try_from(at.as_millis()).unwrap_or(u64::MAX - 1);
        self.last_read_millis.store(millis + 1, Ordering::Release);
    }

    /// Measures the offset: the database's clock was read between `before` and `after` on this replica's
    /// clock.
    pub(super) fn compare_clocks(&self, before: UnixMillis, after: UnixMillis, database: UnixMillis) {
        let middle = before.0 + (after.0 - before.0) / 2;
        let offset = middle.saturating_sub(database.0).max(NEVER_COMPARED + 1);
        let last = self.clock_offset.swap(offset, Ordering::Relaxed);
        if is_clock_offset_excessive(offset) && !(last != NEVER_COMPARED && is_clock_offset_excessive(last)) {
            tracing::error!(
                offset_ms = offset,
                "clock offset to the database is excessive: keys and sessions expire at the wrong time on this replica; \
                 check time synchronisation"
            );
        }
    }
}

/// Whether an offset exceeds [`MAX_CLOCK_OFFSET`].
#[must_use]
pub fn is_clock_offset_excessive(offset: i64) -> bool {
    u128::from(offset.unsigned_abs()) > MAX_CLOCK_OFFSET.as_millis()
}
