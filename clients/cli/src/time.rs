//! Moments and spans, as people write and read them.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use serde::{Serialize, Serializer};

/// A moment. Shows itself as RFC 3339 in UTC, to the second; in JSON with what is finer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Timestamp);

impl Moment {
    pub(crate) fn now() -> Self {
        Self(Timestamp::now())
    }

    /// `None` beyond the year 9999.
    pub(crate) fn after(self, span: Duration) -> Option<Self> {
        self.0.checked_add(span).ok().map(Self)
    }

    /// Not before 1970.
    pub(crate) fn before(self, span: Duration) -> Self {
        Self(self.0.checked_sub(span).unwrap_or(Timestamp::UNIX_EPOCH).max(Timestamp::UNIX_EPOCH))
    }

    /// Whether it lies between 1970 and 9999, which is what the service takes.
    pub(crate) fn is_storable(self) -> bool {
        self.0 >= Timestamp::UNIX_EPOCH
    }

    /// `2030-01-31T00:00:00Z (in 89d)`.
    pub(crate) fn with_distance(self, now: Self) -> String {
        let distance = self.0.duration_since(now.0);
        // Started seconds count: what was set to 90 days a moment ago is not "in 89d".
        let length = distance.unsigned_abs().saturating_add(Duration::from_nanos(999_999_999));
        let length = coarse(Duration::from_secs(length.as_secs()));
        if distance.is_negative() {
            format!("{self} ({length} ago)")
        } else {
            format!("{self} (in {length})")
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.0}", self.0))
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl From<Moment> for prost_types::Timestamp {
    fn from(moment: Moment) -> Self {
        // Jiff's fraction is negative before 1970, the contract's never.
        let (mut seconds, mut nanos) = (moment.0.as_second(), moment.0.subsec_nanosecond());
        if nanos < 0 {
            seconds -= 1;
            nanos += 1_000_000_000;
        }
        Self { seconds, nanos }
    }
}

impl TryFrom<prost_types::Timestamp> for Moment {
    type Error = jiff::Error;

    fn try_from(timestamp: prost_types::Timestamp) -> Result<Self, Self::Error> {
        Timestamp::new(timestamp.seconds, timestamp.nanos).map(Self)
    }
}

impl TryFrom<SystemTime> for Moment {
    type Error = jiff::Error;

    fn try_from(time: SystemTime) -> Result<Self, Self::Error> {
        Timestamp::try_from(time).map(Self)
    }
}

/// The greatest unit of a length of time, rounded down: `89d`, `3h`, `12m`, `4s`; `250ms` below a second.
pub(crate) fn coarse(length: Duration) -> String {
    match length.as_secs() {
        0 => format!("{}ms", length.as_millis()),
        s @ 1..60 => format!("{s}s"),
        s @ 60..3_600 => format!("{}m", s / 60),
        s @ 3_600..86_400 => format!("{}h", s / 3_600),
        s => format!("{}d", s / 86_400),
    }
}

/// Reads RFC 3339, with any offset.
pub(crate) fn moment(text: &str) -> Result<Moment, &'static str> {
    const WRONG: &str = "must be RFC 3339, such as 2030-01-31T00:00:00Z";
    let moment = text.parse().map(Moment).map_err(|_| WRONG)?;
    if moment.is_storable() { Ok(moment) } else { Err("must lie between the years 1970 and 9999") }
}

/// Reads a length of time such as `90d`, `12h` or `1h 30m`.
pub(crate) fn span(text: &str) -> Result<Duration, &'static str> {
    const WRONG: &str = "must be a time such as 500ms, 90s, 30m, 12h, 90d or 2w";
    let span: Span = text.parse().map_err(|_| WRONG)?;
    let days = SpanRelativeTo::days_are_24_hours();
    // Months and years have no length of their own.
    let duration: SignedDuration = span.to_duration(days).map_err(|_| WRONG)?;
    duration.try_into().map_err(|_| "must not be negative")
}

/// Reads how long to wait: a length of time that is not zero.
pub(crate) fn wait(text: &str) -> Result<Duration, &'static str> {
    span(text).and_then(|span| match span {
        Duration::ZERO => Err("must be longer than zero"),
        span => Ok(span),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
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
            assert_eq!(span(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "soon", "1 month", "1y", "5s ago", "-5s"] {
            assert!(span(text).is_err(), "{text}");
        }
        assert!(wait("0s").is_err());
    }

    #[test]
    fn moments_are_read_with_any_offset_and_shown_in_utc() {
        let read = moment("2030-01-31T01:30:00.25+01:30").unwrap();
        assert_eq!(read.to_string(), "2030-01-31T00:00:00Z");
        let json = serde_json::to_string(&read).unwrap();
        assert_eq!(json, "\"2030-01-31T00:00:00.25Z\"");
        for text in ["", "2030-01-31", "2030-01-31T00:00:00", "tomorrow", "1969-12-31T23:59:59Z"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn distances_are_coarse() {
        let now = moment("2030-01-31T00:00:00Z").unwrap();
        let later = moment("2030-04-30T12:00:00Z").unwrap();
        assert_eq!(later.with_distance(now), "2030-04-30T12:00:00Z (in 89d)");
        assert_eq!(now.with_distance(later), "2030-01-31T00:00:00Z (89d ago)");
    }

    proptest! {
        #[test]
        fn timestamps_survive_the_wire(seconds in -62_135_596_800_i64..253_402_207_200, nanos in 0..1_000_000_000) {
            let timestamp = prost_types::Timestamp { seconds, nanos };
            let moment = Moment::try_from(timestamp).unwrap();
            prop_assert_eq!(prost_types::Timestamp::from(moment), timestamp);
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = span(&text);
            let _ = moment(&text);
        }
    }
}
