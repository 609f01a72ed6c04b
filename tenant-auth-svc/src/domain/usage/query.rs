//! Asking for sums.

use std::fmt;

use thiserror::Error;

use super::{Hour, Metric};
use crate::domain::{
    clock::UnixMillis,
    id::TenantId,
    page::{PageRequest, PageSize},
};

/// How many sums a page holds: 500 unless asked otherwise, 5,000 at most.
pub const MAX_SUMS: (PageSize, PageSize) = (PageSize::of(500), PageSize::of(5_000));

/// The width of a sum, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A calendar month.
    Month,
}

/// What to sum: whole hours, since totals are kept by the hour.
#[derive(Clone, Debug)]
pub struct UsageQuery {
    /// Whose usage.
    pub tenant_id: TenantId,
    /// Of one metric, or of all.
    pub metric: Option<Metric>,
    /// The first hour.
    pub start: Hour,
    /// The hour after the last one.
    pub end: Hour,
    /// The width of a sum.
    pub bucket: Bucket,
    /// Which page.
    pub page: PageRequest<UsageCursor>,
}

/// Why two moments are no range. The message completes the sentence "the value …".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("must be after start_time")]
pub struct InvalidRange;

impl UsageQuery {
    /// The hours that a range of moments touches.
    ///
    /// # Errors
    /// When it is empty.
    pub fn hours(start: UnixMillis, end: UnixMillis) -> Result<(Hour, Hour), InvalidRange> {
        if start < end { Ok((Hour::of(start), Hour::from(end))) } else { Err(InvalidRange) }
    }
}

/// One metric's sum over one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageSum {
    /// Where the bucket starts.
    pub start: UnixMillis,
    /// Of what.
    pub metric: Metric,
    /// How much.
    pub quantity: i64,
}

/// The sum after which a page starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageCursor {
    /// Where its bucket starts.
    pub start: UnixMillis,
    /// Its metric.
    pub metric: Metric,
}

impl UsageCursor {
    /// Reads what `Display` wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (start, metric) = text.split_once(' ')?;
        Some(Self { start: UnixMillis(start.parse().ok()?), metric: Metric::parse(metric).ok()? })
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
    fn a_range_is_widened_to_whole_hours() {
        let hour = 3_600_000;
        let hours = |start, end| UsageQuery::hours(UnixMillis(start), UnixMillis(end));
        assert_eq!(hours(hour + 1, hour + 2), hours(hour, 2 * hour));
        assert_eq!(hours(hour, 2 * hour).unwrap().1.start(), UnixMillis(2 * hour));
        assert_eq!(hours(5, 5), Err(InvalidRange));
    }

    #[test]
    fn cursors_survive_the_trip() {
        let cursor =
            UsageCursor { start: UnixMillis(3_600_000), metric: Metric::parse("api.calls").unwrap() };
        assert_eq!(UsageCursor::parse(&cursor.to_string()), Some(cursor));
        for odd in ["", "5", "x calls", "5 Calls"] {
            assert_eq!(UsageCursor::parse(odd), None);
        }
    }
}
