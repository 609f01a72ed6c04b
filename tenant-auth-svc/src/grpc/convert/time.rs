//! Timestamps and durations on the wire.

use std::time::Duration;

use prost_types::Timestamp;
use thiserror::Error;

use crate::domain::clock::UnixMillis;

/// The reason why a timestamp or duration was refused. It completes the sentence "the value …".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum InvalidTime {
    #[error("must lie between the years 1970 and 9999")]
    OutOfRange,
    #[error("must not be negative")]
    Negative,
}

/// Returns whole milliseconds; fractions of a millisecond are dropped.
pub(super) fn parse_timestamp(timestamp: Timestamp) -> Result<UnixMillis, InvalidTime> {
    let millis = timestamp
        .seconds
        .checked_mul(1_000)
        .and_then(|millis| millis.checked_add(i64::from(timestamp.nanos.div_euclid(1_000_000))))
        .ok_or(InvalidTime::OutOfRange)?;
    let fits = (0..1_000_000_000).contains(&timestamp.nanos) && (0..=UnixMillis::MAX.0).contains(&millis);
    if fits { Ok(UnixMillis(millis)) } else { Err(InvalidTime::OutOfRange) }
}

/// Converts a timestamp. Values outside of the years 1970 to 9999, which a SQL shell may have written, are
/// clamped: the contract has none, and not every client could read them.
pub(in crate::grpc) fn timestamp(at: UnixMillis) -> Timestamp {
    let at = at.clamp(UnixMillis(0), UnixMillis::MAX);
    let nanos = at.0.rem_euclid(1_000) * 1_000_000;
    Timestamp { seconds: at.0.div_euclid(1_000), nanos: i32::try_from(nanos).unwrap_or(0) }
}

pub(super) fn parse_duration(duration: prost_types::Duration) -> Result<Duration, InvalidTime> {
    duration.try_into().map_err(|_| InvalidTime::Negative)
}

pub(super) fn duration(value: Duration) -> prost_types::Duration {
    // Fails only beyond 292 billion years.
    prost_types::Duration::try_from(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_round_trip() {
        for millis in [0, 1, 999, 1_000, 1_763_700_000_123, UnixMillis::MAX.0] {
            assert_eq!(parse_timestamp(timestamp(UnixMillis(millis))), Ok(UnixMillis(millis)));
        }
    }

    #[test]
    fn out_of_range_timestamps_are_clamped() {
        for (stored, sent) in [
            (i64::MIN, 0),
            (-1, 0),
            (UnixMillis::MAX.0 + 1, UnixMillis::MAX.0),
            (i64::MAX, UnixMillis::MAX.0),
        ] {
            assert_eq!(timestamp(UnixMillis(stored)), timestamp(UnixMillis(sent)));
        }
    }

    #[test]
    fn invalid_timestamps_are_refused() {
        for (seconds, nanos) in
            [(-1, 0), (i64::MAX, 0), (i64::MIN, 0), (0, -1), (0, i32::MAX), (253_402_300_800, 0)]
        {
            assert_eq!(parse_timestamp(Timestamp { seconds, nanos }), Err(InvalidTime::OutOfRange));
        }
        let negative = prost_types::Duration { seconds: -1, nanos: 0 };
        assert_eq!(parse_duration(negative), Err(InvalidTime::Negative));
    }
}
