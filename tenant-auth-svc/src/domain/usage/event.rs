//! Usage events, and why they are rejected.

use std::time::Duration;

use compact_str::CompactString;
use thiserror::Error;

use crate::domain::{clock::UnixMillis, id::TenantId};

/// Maximum age of an event when it first arrives.
pub(super) const MAX_EVENT_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Maximum time that an event may be ahead of this replica's clock.
pub(super) const MAX_EVENT_LEAD: Duration = Duration::from_secs(5 * 60);
/// One hour, in milliseconds.
const HOUR_MILLIS: i64 = 60 * 60 * 1_000;

/// The name of a metric: `[a-z][a-z0-9_.]{0,63}`. A short one needs no allocation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsageMetric(CompactString);

/// Why a text is not a valid metric name. The message completes the sentence "the value …".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("must be a lower-case name such as api.calls: a letter, then up to 63 of a-z 0-9 _ and .")]
pub struct InvalidMetric;

impl UsageMetric {
    /// Parses a name.
    ///
    /// # Errors
    /// When it has another form.
    pub fn parse(text: &str) -> Result<Self, InvalidMetric> {
        let has_valid_start = text.starts_with(|c: char| c.is_ascii_lowercase());
        let has_valid_characters =
            text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'.');
        if has_valid_start && has_valid_characters && text.len() <= 64 {
            Ok(Self(text.into()))
        } else {
            Err(InvalidMetric)
        }
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A quantity in the metric's own unit: 0 to 10¹².
///
/// Nine million events of the maximum quantity fit into one sum. The database rejects a sum above that, so a
/// stored sum is never wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(i64);

impl Quantity {
    /// The maximum.
    pub const MAX: Self = Self(1_000_000_000_000);

    /// Accepts a number within the bounds.
    ///
    /// # Errors
    /// [`EventRefusal::NegativeQuantity`]; [`EventRefusal::QuantityTooLarge`].
    pub fn new(quantity: i64) -> Result<Self, EventRefusal> {
        if quantity < 0 {
            Err(EventRefusal::NegativeQuantity)
        } else if quantity > Self::MAX.0 {
            Err(EventRefusal::QuantityTooLarge)
        } else {
            Ok(Self(quantity))
        }
    }

    /// Returns the number.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }
}

/// A full hour in UTC, identified by its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(UnixMillis);

impl Hour {
    /// Returns the hour that contains a time.
    #[must_use]
    pub fn floor(at: UnixMillis) -> Self {
        Self(UnixMillis(at.0.div_euclid(HOUR_MILLIS) * HOUR_MILLIS))
    }

    /// Returns the first hour that starts at or after a time.
    #[must_use]
    pub fn ceil(at: UnixMillis) -> Self {
        Self::floor(UnixMillis(at.0.saturating_add(HOUR_MILLIS - 1)))
    }

    /// Returns the next hour.
    #[must_use]
    pub fn next(self) -> Self {
        Self(UnixMillis(self.0.0.saturating_add(HOUR_MILLIS)))
    }

    /// Returns the start of the hour.
    #[must_use]
    pub fn start(self) -> UnixMillis {
        self.0
    }
}

/// A usage event of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageEvent {
    /// The tenant.
    pub tenant_id: TenantId,
    /// The metric.
    pub metric: UsageMetric,
    /// The quantity.
    pub quantity: Quantity,
    /// When it occurred; `None` means at its arrival.
    pub occurred_at: Option<UnixMillis>,
}

impl UsageEvent {
    /// Returns the hour that the event counts for if it first arrives at `now`.
    pub(super) fn hour(&self, now: UnixMillis) -> Result<Hour, EventRefusal> {
        let at = self.occurred_at.unwrap_or(now);
        if at.plus(MAX_EVENT_AGE) < now {
            Err(EventRefusal::TooOld)
        } else if at > now.plus(MAX_EVENT_LEAD) {
            Err(EventRefusal::TooFarAhead)
        } else {
            Ok(Hour::floor(at))
        }
    }
}

/// Why an event can never be counted. The message completes the sentence "the event …".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum EventRefusal {
    /// The tenant id is invalid.
    #[error("has an invalid tenant_id: 1 to 64 characters of A-Z a-z 0-9 _ -")]
    InvalidTenantId,
    /// There was no such tenant when the request was recorded.
    #[error("names a tenant that does not exist")]
    UnknownTenant,
    /// The metric name is invalid.
    #[error("has an invalid metric: a lower-case letter, then up to 63 of a-z 0-9 _ .")]
    InvalidMetric,
    /// The quantity is negative.
    #[error("has a negative quantity")]
    NegativeQuantity,
    /// The quantity is above [`Quantity::MAX`].
    #[error("has a quantity above 1,000,000,000,000")]
    QuantityTooLarge,
    /// The time is invalid.
    #[error("has an occurred_at outside the years 1970 to 9999")]
    InvalidTime,
    /// The event is more than 30 days old.
    #[error("was more than 30 days old on arrival")]
    TooOld,
    /// The event is more than 5 minutes ahead.
    #[error("was more than 5 minutes ahead of the server's clock")]
    TooFarAhead,
}

impl EventRefusal {
    /// All reasons.
    const ALL: [Self; 8] = [
        Self::InvalidTenantId,
        Self::UnknownTenant,
        Self::InvalidMetric,
        Self::NegativeQuantity,
        Self::QuantityTooLarge,
        Self::InvalidTime,
        Self::TooOld,
        Self::TooFarAhead,
    ];

    /// Returns the name used in the database and in error details.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidTenantId => "tenant_id_invalid",
            Self::UnknownTenant => "no_such_tenant",
            Self::InvalidMetric => "metric_invalid",
            Self::NegativeQuantity => "quantity_negative",
            Self::QuantityTooLarge => "quantity_too_large",
            Self::InvalidTime => "time_invalid",
            Self::TooOld => "too_old",
            Self::TooFarAhead => "too_far_ahead",
        }
    }

    /// Parses the text that [`as_str`](Self::as_str) returns.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| refusal.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_lower_case_names() {
        for good in ["a", "api.calls", "tokens_v2", &"m".repeat(64)] {
            assert_eq!(UsageMetric::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "A", "1a", ".a", "a b", "é", "a-b", &"m".repeat(65)] {
            assert_eq!(UsageMetric::parse(bad), Err(InvalidMetric), "{bad}");
        }
    }

    #[test]
    fn quantity_bounds_are_enforced() {
        assert_eq!(Quantity::new(-1), Err(EventRefusal::NegativeQuantity));
        assert_eq!(Quantity::new(0).unwrap().get(), 0);
        assert_eq!(Quantity::new(Quantity::MAX.get()), Ok(Quantity::MAX));
        assert_eq!(Quantity::new(Quantity::MAX.get() + 1), Err(EventRefusal::QuantityTooLarge));
        assert_eq!(Quantity::new(i64::MIN), Err(EventRefusal::NegativeQuantity));
    }

    #[test]
    fn hours_are_aligned_to_utc() {
        assert_eq!(Hour::floor(UnixMillis(2 * HOUR_MILLIS - 1)).start(), UnixMillis(HOUR_MILLIS));
        assert_eq!(Hour::ceil(UnixMillis(HOUR_MILLIS)).start(), UnixMillis(HOUR_MILLIS));
        assert_eq!(Hour::ceil(UnixMillis(HOUR_MILLIS + 1)), Hour::floor(UnixMillis(HOUR_MILLIS)).next());
    }

    #[test]
    fn event_window_is_30_days_back_and_5_minutes_ahead() {
        let now = UnixMillis(1_790_000_000_000);
        let event = |offset| UsageEvent {
            tenant_id: TenantId::generate(),
            metric: UsageMetric::parse("calls").unwrap(),
            quantity: Quantity::MAX,
            occurred_at: Some(UnixMillis(now.0 + offset)),
        };
        let (back, ahead) = (30 * 24 * HOUR_MILLIS, 5 * 60 * 1_000);
        assert_eq!(event(-back).hour(now), Ok(Hour::floor(UnixMillis(now.0 - back))));
        assert_eq!(event(-back - 1).hour(now), Err(EventRefusal::TooOld));
        assert_eq!(event(ahead).hour(now), Ok(Hour::floor(UnixMillis(now.0 + ahead))));
        assert_eq!(event(ahead + 1).hour(now), Err(EventRefusal::TooFarAhead));
        let on_arrival = UsageEvent { occurred_at: None, ..event(0) };
        assert_eq!(on_arrival.hour(now), Ok(Hour::floor(now)));
    }

    #[test]
    fn refusal_codes_round_trip() {
        for refusal in EventRefusal::ALL {
            assert_eq!(EventRefusal::parse(refusal.as_str()), Some(refusal));
        }
        assert_eq!(EventRefusal::parse("tired"), None);
    }
}
