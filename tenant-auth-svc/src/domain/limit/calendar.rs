//! The calendar, in UTC.

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};

use super::CalendarWindow;
use crate::domain::clock::UnixMillis;

const HOUR: i64 = 60 * 60 * 1_000;
const DAY: i64 = 24 * HOUR;

/// Returns the start of the window after the one that contains a time; [`UnixMillis::MAX`] if there is none.
#[must_use]
pub fn next_start(window: CalendarWindow, at: UnixMillis) -> UnixMillis {
    let next = |length: i64| UnixMillis((at.0.div_euclid(length) + 1) * length);
    match window {
        CalendarWindow::Hour => next(HOUR),
        CalendarWindow::Day => next(DAY),
        CalendarWindow::Month => next_month(at).unwrap_or(UnixMillis::MAX),
    }
}

fn next_month(at: UnixMillis) -> Option<UnixMillis> {
    let date = Timestamp::from_millisecond(at.0).ok()?.to_zoned(TimeZone::UTC).date();
    let next = date.first_of_month().checked_add(1.month()).ok()?;
    Some(UnixMillis(next.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_window_starts_at_the_boundary() {
        // 2024-02-29T23:30:00Z.
        let leap_day = UnixMillis(1_709_249_400_000);
        assert_eq!(next_start(CalendarWindow::Hour, leap_day), UnixMillis(1_709_251_200_000));
        assert_eq!(next_start(CalendarWindow::Day, leap_day), UnixMillis(1_709_251_200_000));
        assert_eq!(next_start(CalendarWindow::Month, leap_day), UnixMillis(1_709_251_200_000));
        // 2026-12-01T00:00:00Z to 2027-01-01T00:00:00Z.
        assert_eq!(
            next_start(CalendarWindow::Month, UnixMillis(1_796_083_200_000)),
            UnixMillis(1_798_761_600_000)
        );
        assert_eq!(next_start(CalendarWindow::Month, UnixMillis(0)), UnixMillis(31 * DAY));
        assert_eq!(next_start(CalendarWindow::Month, UnixMillis::MAX), UnixMillis::MAX);
    }
}
