//! What a limit is.

use std::time::Duration;

use thiserror::Error;

use crate::domain::{
    clock::UnixMillis,
    id::{KeyId, TenantId},
    usage::UsageMetric,
};

/// The name of a limit: `[a-z][a-z0-9_.-]{0,63}`, unique for its subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitName(Box<str>);

/// Why a text is not a valid name of a limit. The message completes the sentence "the value …".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("must be a lower-case name such as requests.daily: a letter, then up to 63 of a-z 0-9 _ - and .")]
pub struct InvalidLimitName;

impl LimitName {
    /// Parses a name.
    ///
    /// # Errors
    /// When it has another form.
    pub fn parse(text: &str) -> Result<Self, InvalidLimitName> {
        let has_valid_start = text.starts_with(|c: char| c.is_ascii_lowercase());
        let is_valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.".contains(&b);
        if has_valid_start && text.bytes().all(is_valid) && text.len() <= 64 {
            Ok(Self(text.into()))
        } else {
            Err(InvalidLimitName)
        }
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whose limit it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitSubject {
    /// Each tenant with this plan.
    Plan(Box<str>),
    /// A tenant: replaces the limit of its plan that has the same name.
    Tenant(TenantId),
    /// A key: replaces the limit of its tenant or plan that has the same name, and counts for this key alone.
    Key(KeyId),
}

impl LimitSubject {
    /// Returns the name of the kind of subject, as stored.
    #[must_use]
    pub fn scope(&self) -> &'static str {
        match self {
            Self::Plan(_) => "plan",
            Self::Tenant(_) => "tenant",
            Self::Key(_) => "key",
        }
    }

    /// Returns the plan's name or the id.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Plan(plan) => plan,
            Self::Tenant(id) => id.as_str(),
            Self::Key(id) => id.as_str(),
        }
    }
}

/// An amount: 0 to 10¹².
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimitAmount(u64);

impl LimitAmount {
    /// The maximum of a quota or of credits.
    pub const MAX: Self = Self(1_000_000_000_000);
    /// The maximum of a rate, a burst or a cost.
    pub const MAX_RATE: Self = Self(1_000_000_000);

    /// Accepts a number up to [`Self::MAX`].
    ///
    /// # Errors
    /// [`InvalidLimit::Amount`].
    pub fn new(amount: i64) -> Result<Self, InvalidLimit> {
        u64::try_from(amount).ok().map(Self).filter(|amount| *amount <= Self::MAX).ok_or(InvalidLimit::Amount)
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// A window of the calendar, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CalendarWindow {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A month.
    Month,
}

impl CalendarWindow {
    /// All windows.
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Month];

    /// Returns the name, as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

/// The window of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuotaWindow {
    /// A window of the calendar.
    Calendar(CalendarWindow),
    /// Any interval of this length: [`Self::MIN_ROLLING`] to [`Self::MAX_ROLLING`], whole milliseconds.
    Rolling(Duration),
}

impl QuotaWindow {
    /// The shortest rolling window. For shorter ones there are rates.
    pub const MIN_ROLLING: Duration = Duration::from_secs(60);
    /// The longest rolling window.
    pub const MAX_ROLLING: Duration = Duration::from_secs(366 * 24 * 60 * 60);
    /// A rolling window is counted in this many buckets.
    pub const ROLLING_BUCKETS: u32 = 16;
}

/// An amount per window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The amount.
    pub amount: LimitAmount,
    /// The window.
    pub window: QuotaWindow,
}

/// A refill of credits at the start of each window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refill {
    /// The amount.
    pub amount: LimitAmount,
    /// The window.
    pub every: CalendarWindow,
    /// A refill raises the balance at most to this; `None` for no maximum.
    pub max_balance: Option<LimitAmount>,
}

/// A balance without a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credits {
    /// The balance at the start.
    pub initial: LimitAmount,
    /// The periodic refill, if any.
    pub refill: Option<Refill>,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What flows in per period: 1 to [`LimitAmount::MAX_RATE`].
    pub amount: LimitAmount,
    /// The period: 1 second to 1 day, whole milliseconds.
    pub per: Duration,
    /// The capacity of the bucket: 1 to [`LimitAmount::MAX_RATE`].
    pub burst: LimitAmount,
}

/// The rule of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitRule {
    /// An amount per window.
    Quota(Quota),
    /// A balance.
    Credits(Credits),
    /// A rate with burst.
    Rate(Rate),
}

impl LimitRule {
    /// Returns the kind, as stored: what was used counts on as long as it does not change.
    #[must_use]
    pub fn kind(&self) -> String {
        match self {
            Self::Quota(Quota { window: QuotaWindow::Calendar(window), .. }) => window.as_str().to_owned(),
            Self::Quota(Quota { window: QuotaWindow::Rolling(length), .. }) => {
                format!("rolling:{}", length.as_millis())
            }
            Self::Credits(_) => "credits".to_owned(),
            Self::Rate(_) => "rate".to_owned(),
        }
    }
}

/// What happens when the lease is spent and the database does not respond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutagePolicy {
    /// Admit.
    Open,
    /// Hold a larger lease in advance; when it is spent, as [`Self::Closed`].
    LocalShare,
    /// Do not decide.
    Closed,
}

impl OutagePolicy {
    /// All policies.
    pub const ALL: [Self; 3] = [Self::Open, Self::LocalShare, Self::Closed];

    /// Returns the name, as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::LocalShare => "local_share",
            Self::Closed => "closed",
        }
    }
}

/// A limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Whose limit it is.
    pub subject: LimitSubject,
    /// Its name.
    pub name: LimitName,
    /// What it limits.
    pub metric: UsageMetric,
    /// Its rule.
    pub rule: LimitRule,
    /// What happens when the database does not respond.
    pub on_outage: OutagePolicy,
    /// Whether it is counted and reported but never denies.
    pub shadow: bool,
    /// The change-log position of its last change; 0 before it is stored.
    pub version: i64,
    /// When it was last changed, by the database's clock.
    pub updated_at: UnixMillis,
}

/// Why a limit is invalid. The message completes the sentence "the value …".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidLimit {
    /// An amount is out of bounds.
    #[error("must be 0 to 1,000,000,000,000")]
    Amount,
    /// The amount or burst of a rate is out of bounds.
    #[error("must be 1 to 1,000,000,000")]
    RateAmount,
    /// The amount of a refill is out of bounds.
    #[error("must be 1 to 1,000,000,000,000")]
    RefillAmount,
    /// The length of a rolling window is out of bounds.
    #[error("must be 1 minute to 366 days, in whole milliseconds; use a rate for shorter windows")]
    RollingWindow,
    /// The period of a rate is out of bounds.
    #[error("must be 1 second to 1 day, in whole milliseconds")]
    RatePeriod,
}
