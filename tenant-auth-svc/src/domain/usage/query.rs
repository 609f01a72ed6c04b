//! Queries of usage sums.

use std::fmt;

use thiserror::Error;

use super::{Hour, UsageMetric};
use crate::domain::{
    clock::UnixMillis,
    id::TenantId,
    page::{PageRequest, PageSize},
};

/// Default and maximum number of sums per page: 500 and 5,000.
pub const SUMS_PAGE_SIZES: (PageSize, PageSize) = (PageSize::new(500), PageSize::new(5_000));

/// The time span of one sum, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeBucket {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A calendar month.
    Month,
}

/// A query of sums. It covers whole hours, because totals are stored by hour.
#[derive(Clone, Debug)]
pub struct UsageQuery {
    /// The tenant.
    pub tenant_id: TenantId,
    /// One metric; `None` for all.
    pub metric: Option<UsageMetric>,
    /// The first hour.
    pub start: Hour,
    /// The hour after the last one.
    pub end: Hour,
    /// The time span of one sum.
    pub bucket: TimeBucket,
    /// The page.
    pub page: PageRequest<UsageCursor>,
}

/// Why two times are not a valid range. The message completes the sentence "the value …".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("must be after start_time")]
pub struct InvalidTimeRange;

impl UsageQuery {
    /// Returns the first hour of a time range, and the hour after its last one.
    ///
    /// # Errors
    /// When the range is empty.
    pub fn hours(start: UnixMillis, end: UnixMillis) -> Result<(Hour, Hour), InvalidTimeRange> {
        if start < end { Ok((Hour::floor(start), Hour::ceil(end))) } else { Err(InvalidTimeRange) }
    }
}

/// The sum of one metric over one time bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageSum {
    /// The start of the bucket.
    pub start: UnixMillis,
    /// The metric.
    pub metric: UsageMetric,
    /// The sum.
    pub quantity: i64,
}

/// The sum after which a page starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageCursor {
    /// The start of its bucket.
    pub start: UnixMillis,
    /// Its metric.
    pub metric: UsageMetric,
}

impl UsageCursor {
    /// Parses the text that `Display` writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (start, metric) = text.split_once(' ')?;
        Some(Self { start: UnixMillis(start.parse().ok()?), metric: UsageMetric::parse(metric).ok()? })
    }
}

impl fmt::Display for UsageCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.start.0, self.metric.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_is_widened_to_whole_hours() {
        let hour = 3_600_000;
        let hours = |start, end| UsageQuery::hours(UnixMillis(start), UnixMillis(end));
        assert_eq!(hours(hour + 1, hour + 2), hours(hour, 2 * hour));
        assert_eq!(hours(hour, 2 * hour).unwrap().1.start(), UnixMillis(2 * hour));
        assert_eq!(hours(5, 5), Err(InvalidTimeRange));
    }

    #[test]
    fn usage_cursor_round_trips_through_text() {
        let cursor =
            UsageCursor { start: UnixMillis(3_600_000), metric: UsageMetric::parse("api.calls").unwrap() };
        assert_eq!(UsageCursor::parse(&cursor.to_string()), Some(cursor));
        for odd in ["", "5", "x calls", "5 Calls"] {
            assert_eq!(UsageCursor::parse(odd), None);
        }
    }
}
