//! Times and durations: parsing and display.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use jiff::{SignedDuration, Span, SpanRelativeTo, civil::DateTime, fmt::temporal::Pieces};
use serde::{Serialize, Serializer};

/// A point in time. Displayed as RFC 3339 in UTC, to the second; in JSON with fractions. Any time of a
/// response can be displayed: times beyond the years of RFC 3339 are shown as `@` and the seconds since 1970,
/// as `date -d` accepts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    /// Seconds since 1970.
    seconds: i64,
    /// Nanoseconds in addition.
    nanos: i32,
}

/// The last second of the year 9999, since 1970: the maximum that the service accepts.
const MAX_UNIX_SECONDS: i64 = 253_402_300_799;
/// The maximum timeout of a client.
const MAX_TIMEOUT: Duration = Duration::from_secs(86_400);

impl Moment {
    pub(crate) fn now() -> Self {
        SystemTime::now().into()
    }

    /// Adds a duration; `None` beyond the year 9999.
    pub(crate) fn after(self, duration: Duration) -> Option<Self> {
        let nanos = self.nanos.unsigned_abs() + duration.subsec_nanos();
        let whole = i64::from(nanos / 1_000_000_000);
        let seconds =
            self.seconds.checked_add(i64::try_from(duration.as_secs()).ok()?)?.checked_add(whole)?;
        let nanos = i32::try_from(nanos % 1_000_000_000).ok()?;
        Some(Self { seconds, nanos }).filter(|moment| moment.seconds <= MAX_UNIX_SECONDS)
    }

    /// Subtracts a duration, at most to 1970.
    pub(crate) fn before(self, duration: Duration) -> Self {
        let elapsed = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        Self { seconds: self.seconds.saturating_sub(elapsed).max(0), nanos: self.nanos }
    }

    /// Formats with the relative time: `2030-01-31T00:00:00Z (in 89d)`.
    pub(crate) fn with_relative_time(self, now: Self) -> String {
        let nanos = |moment: Self| i128::from(moment.seconds) * 1_000_000_000 + i128::from(moment.nanos);
        let distance = nanos(self) - nanos(now);
        // Rounded up to a second: a time set to 90 days a moment ago must not show as "in 89d".
        let length = distance.unsigned_abs().div_ceil(1_000_000_000);
        let length = format_coarse(Duration::from_secs(u64::try_from(length).unwrap_or(u64::MAX)));
        if distance < 0 { format!("{self} ({length} ago)") } else { format!("{self} (in {length})") }
    }

    /// Returns the time since another moment; `None` if this one is earlier.
    pub(crate) fn since(self, earlier: Self) -> Option<Duration> {
        let nanos = |moment: Self| i128::from(moment.seconds) * 1_000_000_000 + i128::from(moment.nanos);
        let distance = u64::try_from(nanos(self) - nanos(earlier)).ok()?;
        Some(Duration::from_nanos(distance))
    }

    /// Formats the hour: `2030-01-31T12Z`.
    pub(crate) fn to_hour_text(self) -> String {
        self.to_string().split_once(':').map_or_else(|| self.to_string(), |(hour, _)| format!("{hour}Z"))
    }

    /// Converts to UTC; `None` for a year outside RFC 3339.
    fn to_utc(self) -> Option<DateTime> {
        let since = SignedDuration::new(self.seconds, self.nanos);
        let at = EPOCH.checked_add(since).ok()?;
        (0..=9_999).contains(&at.year()).then_some(at)
    }
}

/// The start of 1970, in UTC.
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&match self.to_utc() {
            Some(at) => format!("{at:.0}Z"),
            None => format!("@{}", self.seconds),
        })
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.to_utc() {
            Some(at) => serializer.collect_str(&format_args!("{at}Z")),
            None => serializer.collect_str(&format_args!("@{}", self.seconds)),
        }
    }
}

impl From<Moment> for prost_types::Timestamp {
    fn from(Moment { seconds, nanos }: Moment) -> Self {
        Self { seconds, nanos }
    }
}

impl From<prost_types::Timestamp> for Moment {
    fn from(timestamp: prost_types::Timestamp) -> Self {
        // Fractions are between 0 and 1 s in all valid timestamps.
        Self { seconds: timestamp.seconds, nanos: timestamp.nanos.clamp(0, 999_999_999) }
    }
}

impl From<SystemTime> for Moment {
    fn from(time: SystemTime) -> Self {
        prost_types::Timestamp::from(time).into()
    }
}

/// Formats a duration in its greatest unit, rounded down: `89d`, `3h`, `12m`, `4s`; `250ms` below a second.
pub(crate) fn format_coarse(length: Duration) -> String {
    match length.as_secs() {
        0 => format!("{}ms", length.as_millis()),
        s @ 1..60 => format!("{s}s"),
        s @ 60..3_600 => format!("{}m", s / 60),
        s @ 3_600..86_400 => format!("{}h", s / 3_600),
        s => format!("{}d", s / 86_400),
    }
}

/// Formats a duration exactly, in its greatest whole unit: `90m`, `1d`, `1500ms`.
pub(crate) fn format_exact(length: Duration) -> String {
    let millis = length.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let unit = units.into_iter().find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{millis}ms"), |(name, unit)| format!("{}{name}", millis / unit))
}

/// Parses RFC 3339, with any offset.
pub(crate) fn parse_moment(text: &str) -> Result<Moment, &'static str> {
    const INVALID: &str = "must be RFC 3339, such as 2030-01-31T00:00:00Z";
    let pieces = Pieces::parse(text).map_err(|_| INVALID)?;
    let (Some(time), Some(offset), None) =
        (pieces.time(), pieces.to_numeric_offset(), pieces.time_zone_annotation())
    else {
        return Err(INVALID);
    };
    let since = pieces.date().to_datetime(time).duration_since(EPOCH);
    let moment =
        Moment { seconds: since.as_secs() - i64::from(offset.seconds()), nanos: since.subsec_nanos() };
    let is_storable = moment.nanos >= 0 && (0..=MAX_UNIX_SECONDS).contains(&moment.seconds);
    if is_storable { Ok(moment) } else { Err("must be in the years 1970 to 9999") }
}

/// Parses a duration such as `90d`, `12h` or `1h 30m`.
pub(crate) fn parse_span(text: &str) -> Result<Duration, &'static str> {
    const INVALID: &str = "must be a duration such as 500ms, 90s, 30m, 12h, 90d or 2w";
    let span: Span = text.parse().map_err(|_| INVALID)?;
    let days = SpanRelativeTo::days_are_24_hours();
    // Months and years have no fixed length.
    let duration: SignedDuration = span.to_duration(days).map_err(|_| INVALID)?;
    duration.try_into().map_err(|_| "must not be negative")
}

/// Parses a duration that is not zero.
pub(crate) fn parse_nonzero_span(text: &str) -> Result<Duration, &'static str> {
    parse_span(text).and_then(|span| if span.is_zero() { Err("must be longer than zero") } else { Ok(span) })
}

/// Parses a timeout, which is at most the maximum of a client.
pub(crate) fn parse_timeout(text: &str) -> Result<Duration, &'static str> {
    parse_nonzero_span(text)
        .and_then(|span| if span > MAX_TIMEOUT { Err("must be at most 24h") } else { Ok(span) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn span_formats_are_parsed() {
        let cases = [
            ("500ms", 500),
            ("5s", 5_000),
            ("1m", 60_000),
            ("1h 30m", 5_400_000),
            ("90d", 7_776_000_000),
            ("2w", 1_209_600_000),
            ("0s", 0),
        ];
        for (text, millis) in cases {
            assert_eq!(parse_span(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "soon", "1 month", "1y", "5s ago", "-5s"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
        // Otherwise the client rejects it with an error that names --endpoint.
        assert_eq!(parse_timeout("24h"), Ok(MAX_TIMEOUT));
        for text in ["0s", "24h 1ms"] {
            assert!(parse_timeout(text).is_err(), "{text}");
        }
        assert_eq!(parse_nonzero_span("30d"), Ok(MAX_TIMEOUT * 30));
        assert!(parse_nonzero_span("0s").is_err());
    }

    #[test]
    fn moment_offsets_are_parsed_and_shown_in_utc() {
        let read = parse_moment("2030-01-31T01:30:00.25+01:30").unwrap();
        assert_eq!(read.to_string(), "2030-01-31T00:00:00Z");
        let json = serde_json::to_string(&read).unwrap();
        assert_eq!(json, "\"2030-01-31T00:00:00.25Z\"");
        for text in [
            "",
            "2030-01-31",
            "2030-01-31T00:00:00",
            "tomorrow",
            "1969-12-31T23:59:59Z",
            "1969-12-31T23:59:59.5Z",
            "9999-12-31T23:59:59-00:01",
            "2030-01-31T00:00:00Z[UTC]",
        ] {
            assert!(parse_moment(text).is_err(), "{text}");
        }
    }

    /// The service accepts both years completely.
    #[test]
    fn first_and_last_moments_round_trip() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("9999-12-30T22:00:01Z", 253_402_207_201),
            ("9999-12-31T23:59:59Z", MAX_UNIX_SECONDS),
        ] {
            let read = parse_moment(text).unwrap();
            assert_eq!((read.seconds, read.to_string()), (seconds, text.to_owned()));
        }
        let last = parse_moment("9999-12-31T23:59:59.999Z").unwrap();
        assert_eq!(serde_json::to_string(&last).unwrap(), "\"9999-12-31T23:59:59.999Z\"");
        assert_eq!(last.after(Duration::from_millis(1)), None);
        assert_eq!(last.after(Duration::MAX), None);
        assert_eq!(
            parse_moment("9999-12-31T23:59:58.5Z").unwrap().after(Duration::from_millis(500)).unwrap().nanos,
            0
        );
        assert_eq!(last.before(Duration::MAX).seconds, 0);
    }

    #[test]
    fn out_of_range_moment_is_shown_as_seconds() {
        for (seconds, shown) in [(i64::MAX, "@9223372036854775807"), (i64::MIN, "@-9223372036854775808")] {
            let moment = Moment::from(prost_types::Timestamp { seconds, nanos: -7 });
            assert_eq!(moment.to_string(), shown);
            assert_eq!(serde_json::to_string(&moment).unwrap(), format!("\"{shown}\""));
            assert!(moment.with_relative_time(Moment::now()).starts_with(shown));
        }
    }

    #[test]
    fn relative_times_are_coarse() {
        let now = parse_moment("2030-01-31T00:00:00Z").unwrap();
        let later = parse_moment("2030-04-30T12:00:00Z").unwrap();
        assert_eq!(later.with_relative_time(now), "2030-04-30T12:00:00Z (in 89d)");
        assert_eq!(now.with_relative_time(later), "2030-01-31T00:00:00Z (89d ago)");
    }

    proptest! {
        #[test]
        fn timestamps_round_trip_through_text(seconds in 0..=MAX_UNIX_SECONDS, nanos in 0..1_000_000_000) {
            let timestamp = prost_types::Timestamp { seconds, nanos };
            let shown = Moment::from(timestamp);
            prop_assert_eq!(prost_types::Timestamp::from(shown), timestamp);
            let json = serde_json::to_string(&shown).unwrap();
            prop_assert_eq!(parse_moment(json.trim_matches('"')), Ok(shown));
        }

        #[test]
        fn any_timestamp_is_shown(seconds in any::<i64>(), nanos in any::<i32>()) {
            let shown = Moment::from(prost_types::Timestamp { seconds, nanos });
            prop_assert!(shown.with_relative_time(Moment::now()).starts_with(&shown.to_string()));
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = parse_span(&text);
            let _ = parse_moment(&text);
        }
    }
}
