//! Deletes old requests and events.

use std::time::Duration;

use super::{Hour, UsageStore};
use crate::domain::{
    clock::UnixMillis,
    store::{Call, StoreError},
};

/// Maximum number of rows of each table deleted in one transaction, so that other writes are not blocked for
/// long.
const MAX_ROWS_PER_SWEEP: usize = 1_000;

/// How long requests and events are kept. It is longer than the maximum age of an arriving event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageRetention(Duration);

impl UsageRetention {
    /// Minimum: one day more than the age above which events are rejected.
    pub const MIN: Duration = Duration::from_secs(31 * 24 * 60 * 60);
    /// Maximum.
    pub const MAX: Duration = Duration::from_secs(400 * 24 * 60 * 60);

    /// Accepts a time within the bounds.
    #[must_use]
    pub fn new(time: Duration) -> Option<Self> {
        (Self::MIN..=Self::MAX).contains(&time).then_some(Self(time))
    }

    /// Returns the duration.
    #[must_use]
    pub fn duration(self) -> Duration {
        self.0
    }

    /// Returns the first hour whose events are complete, with an hour of tolerance for differences between
    /// clocks.
    #[must_use]
    pub fn first_complete_hour(self, now: UnixMillis) -> Hour {
        Hour::ceil(self.cutoff(now)).next()
    }

    fn cutoff(self, now: UnixMillis) -> UnixMillis {
        UnixMillis(now.0.saturating_sub(i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// Deletes what is older than the retention by the database's clock, in batches: requests first, since events
/// are deleted only after their requests.
///
/// # Errors
/// When the database does not respond. The remaining rows are deleted by the next call.
pub async fn sweep_usage<S: UsageStore>(
    store: &S,
    retention: UsageRetention,
    call: impl Fn() -> Call,
) -> Result<(), StoreError> {
    while store.sweep_requests(call(), retention.0, MAX_ROWS_PER_SWEEP).await? >= MAX_ROWS_PER_SWEEP {}
    let mut after: Option<String> = None;
    loop {
        let swept = store.sweep_events(call(), retention.0, after.as_deref(), MAX_ROWS_PER_SWEEP).await?;
        // The same tenants may have more events.
        if swept.deleted < MAX_ROWS_PER_SWEEP {
            match swept.last_tenant {
                Some(tenant) => after = Some(tenant),
                None => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_bounds_are_enforced() {
        assert_eq!(UsageRetention::new(UsageRetention::MIN - Duration::from_secs(1)), None);
        assert_eq!(UsageRetention::new(UsageRetention::MAX + Duration::from_secs(1)), None);
        let retention = UsageRetention::new(UsageRetention::MIN).unwrap();
        let now = UnixMillis(1_790_000_000_000);
        let end = retention.cutoff(now).0;
        let complete = retention.first_complete_hour(now).start().0;
        assert!((end + 3_600_000..end + 2 * 3_600_000).contains(&complete));
    }
}
