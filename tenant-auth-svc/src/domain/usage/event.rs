//! One thing that a tenant consumed, and why it may never be counted.

use std::time::Duration;

use thiserror::Error;

use crate::domain::{clock::UnixMillis, id::TenantId};

/// How old an event may be when it first arrives.
pub(super) const MAX_EVENT_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How far ahead of this replica's clock an event may be.
pub(super) const MAX_EVENT_LEAD: Duration = Duration::from_secs(5 * 60);
/// An hour, in milliseconds.
const HOUR_MILLIS: i64 = 60 * 60 * 1_000;

/// What was consumed: `[a-z][a-z0-9_.]{0,63}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsageMetric(Box<str>);

/// Why a text is no metric. The message completes the sentence "the value …".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("must be a lower-case name such as api.calls: a letter, then up to 63 of a-z 0-9 _ and .")]
pub struct InvalidMetric;

impl UsageMetric {
    /// Accepts a name.
    ///
    /// # Errors
    /// When it does not look like one.
    pub fn parse(text: &str) -> Result<Self, InvalidMetric> {
        let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
        let goes_on =
            text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'.');
        if starts && goes_on && text.len() <= 64 { Ok(Self(text.into())) } else { Err(InvalidMetric) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How much, in the metric's own unit: 0 to 10¹².
///
/// So nine million events of the largest size fit in one sum. A sum beyond that is refused by the database, never wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(i64);

impl Quantity {
    /// The largest.
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

    /// The number.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }
}

/// The moment at which an hour of UTC starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(UnixMillis);

impl Hour {
    /// The hour that a moment lies in.
    #[must_use]
    pub fn floor(at: UnixMillis) -> Self {
        Self(UnixMillis(at.0.div_euclid(HOUR_MILLIS) * HOUR_MILLIS))
    }

    /// The first hour that starts at or after a moment.
    #[must_use]
    pub fn ceil(at: UnixMillis) -> Self {
        Self::floor(UnixMillis(at.0.saturating_add(HOUR_MILLIS - 1)))
    }

    /// The one after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(UnixMillis(self.0.0.saturating_add(HOUR_MILLIS)))
    }

    /// Where it starts.
    #[must_use]
    pub fn start(self) -> UnixMillis {
        self.0
    }
}

/// One thing that a tenant consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageEvent {
    /// Who.
    pub tenant_id: TenantId,
    /// What.
    pub metric: UsageMetric,
    /// How much.
    pub quantity: Quantity,
    /// When; `None` means on arrival.
    pub occurred_at: Option<UnixMillis>,
}

impl UsageEvent {
    /// The hour it counts for when it first arrives at `now`.
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
    /// The tenant's id is none.
    #[error("has a tenant_id that is none: 1 to 64 of A-Z a-z 0-9 _ and -")]
    InvalidTenantId,
    /// There was no such tenant when the request was recorded.
    #[error("names a tenant that does not exist")]
    UnknownTenant,
    /// The metric is none.
    #[error("has a metric that is none: a lower-case letter, then up to 63 of a-z 0-9 _ and .")]
    InvalidMetric,
    /// Less than nothing was consumed.
    #[error("has a negative quantity")]
    NegativeQuantity,
    /// More than [`Quantity::MAX`] was consumed.
    #[error("has a quantity above 1,000,000,000,000")]
    QuantityTooLarge,
    /// The moment is none.
    #[error("has an occurred_at outside the years 1970 to 9999")]
    InvalidTime,
    /// It lay more than 30 days back.
    #[error("lies more than 30 days back")]
    TooOld,
    /// It lay more than 5 minutes ahead.
    #[error("lies more than 5 minutes ahead")]
    TooFarAhead,
}

impl EventRefusal {
    /// Every one.
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

    /// As the database and error details write it.
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

    /// Reads what [`as_str`](Self::as_str) wrote.
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
