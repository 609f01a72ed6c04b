//! Validity periods of certificates and tokens.

/// A credential counts as expiring when less than this many seconds are left: a week.
const EXPIRING_SECONDS: i64 = 7 * 86_400;
/// But only when less than one part in this many of its lifetime is left: a credential issued for a day is renewed in
/// time, and would otherwise count as expiring all its life.
const EXPIRING_LIFETIME_DIVISOR: i64 = 4;
/// The last second of the year 9999; later times are not plausible.
const MAX_UNIX_SECONDS: i64 = 253_402_300_799;

/// The validity period of a certificate or a token, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First second: `notBefore`, or when a token was issued. `None` if a token does not say.
    pub not_before: Option<i64>,
    /// Last second: `notAfter`, or `exp` of a token.
    pub not_after: i64,
}

/// State of a validity period at a given time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValidityState {
    /// Before its first second.
    NotYetValid,
    /// Valid, and not expiring yet.
    Valid,
    /// Valid for less than a week, and for less than a quarter of its lifetime.
    Expiring,
    /// After its last second.
    Expired,
}

impl Validity {
    /// Returns the state at `now`, in seconds since 1970.
    #[must_use]
    pub fn state(self, now: i64) -> ValidityState {
        let left = self.not_after.saturating_sub(now);
        let lifetime = self.not_before.map(|start| self.not_after.saturating_sub(start));
        let is_short =
            |left: i64| lifetime.is_none_or(|lifetime| left < lifetime / EXPIRING_LIFETIME_DIVISOR);
        if self.not_before.is_some_and(|start| now < start) {
            ValidityState::NotYetValid
        } else if left < 0 {
            ValidityState::Expired
        } else if left < EXPIRING_SECONDS && is_short(left) {
            ValidityState::Expiring
        } else {
            ValidityState::Valid
        }
    }
}

/// Converts a number to seconds since 1970, fractions truncated; `None` outside the years 1970 to 9999.
#[must_use]
pub fn unix_seconds(number: f64) -> Option<i64> {
    let is_a_time = number >= 1.0 && number < MAX_UNIX_SECONDS as f64 + 1.0;
    is_a_time.then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn state(lifetime_days: i64, left_seconds: i64) -> ValidityState {
        let not_after = 1_790_000_000;
        let validity = Validity { not_before: Some(not_after - lifetime_days * DAY), not_after };
        validity.state(not_after - left_seconds)
    }

    #[test]
    fn certificate_is_expiring_in_its_last_week() {
        assert_eq!(state(90, 7 * DAY), ValidityState::Valid);
        assert_eq!(state(90, 7 * DAY - 1), ValidityState::Expiring);
        assert_eq!(state(90, 0), ValidityState::Expiring, "its last second counts");
        assert_eq!(state(90, -1), ValidityState::Expired);
        assert_eq!(state(90, 91 * DAY), ValidityState::NotYetValid);
    }

    #[test]
    fn short_lived_certificate_is_expiring_in_its_last_quarter() {
        assert_eq!(state(1, 6 * 3_600), ValidityState::Valid);
        assert_eq!(state(1, 6 * 3_600 - 1), ValidityState::Expiring);
        let unknown = Validity { not_before: None, not_after: 1_790_000_000 };
        assert_eq!(unknown.state(1_790_000_000 - DAY), ValidityState::Expiring, "its lifetime is unknown");
    }

    #[test]
    fn extreme_validity_does_not_overflow() {
        for not_after in [i64::MIN, -1, 0, i64::MAX] {
            for not_before in [None, Some(i64::MIN), Some(i64::MAX)] {
                for now in [i64::MIN, 0, i64::MAX] {
                    let _ = Validity { not_before, not_after }.state(now);
                }
            }
        }
    }

    #[test]
    fn unix_seconds_accepts_years_1970_to_9999() {
        assert_eq!(unix_seconds(1_790_000_000.9), Some(1_790_000_000));
        assert_eq!(unix_seconds(253_402_300_799.9), Some(MAX_UNIX_SECONDS));
        for invalid in [-1.0, 0.0, 0.5, 253_402_300_800.0, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY]
        {
            assert_eq!(unix_seconds(invalid), None, "{invalid}");
        }
    }
}
