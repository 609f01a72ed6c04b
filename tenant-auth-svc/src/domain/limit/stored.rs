//! The columns that a rule is stored in, and the bounds of its values.

use std::time::Duration;

use super::{
    CalendarWindow, Credits, InvalidLimit, LimitAmount, LimitRule, OutagePolicy, Quota, QuotaWindow, Rate,
    Refill,
};

/// The columns of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredRule {
    /// See [`LimitRule::kind`].
    pub kind: String,
    /// The amount of a quota or a rate, or the initial credits.
    pub amount: i64,
    /// The length of a rolling window or the period of a rate, in milliseconds; otherwise 0.
    pub period_ms: i64,
    /// The capacity of a rate's bucket; otherwise 0.
    pub burst: i64,
    /// The amount of a refill; 0 without one.
    pub refill_amount: i64,
    /// The window of a refill; empty without one.
    pub refill_every: String,
    /// What a refill raises the balance to, at most; 0 for no maximum.
    pub max_balance: i64,
}

impl StoredRule {
    /// Returns the columns of a rule.
    #[must_use]
    pub fn of(rule: &LimitRule) -> Self {
        let (kind, number) = (rule.kind(), LimitAmount::as_i64);
        match *rule {
            LimitRule::Quota(Quota { amount, window }) => {
                let period_ms = match window {
                    QuotaWindow::Calendar(_) => 0,
                    QuotaWindow::Rolling(length) => millis(length),
                };
                Self { kind, amount: number(amount), period_ms, ..Self::default() }
            }
            LimitRule::Credits(Credits { initial, refill }) => Self {
                kind,
                amount: number(initial),
                refill_amount: refill.map_or(0, |refill| number(refill.amount)),
                refill_every: refill.map_or_else(String::new, |refill| refill.every.as_str().to_owned()),
                max_balance: refill.and_then(|refill| refill.max_balance).map_or(0, number),
                ..Self::default()
            },
            LimitRule::Rate(Rate { amount, per, burst }) => Self {
                kind,
                amount: number(amount),
                period_ms: millis(per),
                burst: number(burst),
                ..Self::default()
            },
        }
    }

    /// Returns the rule; `None` if no rule is stored like this.
    #[must_use]
    pub fn rule(&self) -> Option<LimitRule> {
        let amount = LimitAmount::new(self.amount).ok()?;
        let period = Duration::from_millis(self.period_ms.try_into().ok()?);
        let rule = match self.kind.as_str() {
            "credits" => LimitRule::Credits(Credits { initial: amount, refill: self.refill()? }),
            "rate" => LimitRule::Rate(Rate {
                amount: LimitAmount::of_rate(self.amount).ok()?,
                per: Rate::period(period).ok()?,
                burst: LimitAmount::of_rate(self.burst).ok()?,
            }),
            kind if kind.starts_with("rolling:") => {
                LimitRule::Quota(Quota { amount, window: QuotaWindow::rolling(period).ok()? })
            }
            kind => LimitRule::Quota(Quota {
                amount,
                window: QuotaWindow::Calendar(CalendarWindow::parse(kind)?),
            }),
        };
        Some(rule).filter(|rule| Self::of(rule) == *self)
    }

    fn refill(&self) -> Option<Option<Refill>> {
        if self.refill_every.is_empty() {
            return Some(None);
        }
        let max_balance = LimitAmount::new(self.max_balance).ok()?;
        Some(Some(Refill {
            amount: LimitAmount::of_refill(self.refill_amount).ok()?,
            every: CalendarWindow::parse(&self.refill_every)?,
            max_balance: (max_balance.get() > 0).then_some(max_balance),
        }))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Whether a duration has whole milliseconds and is within bounds, which are inclusive.
fn is_within(duration: Duration, (min, max): (Duration, Duration)) -> bool {
    (min..=max).contains(&duration) && duration.subsec_nanos().is_multiple_of(1_000_000)
}

impl LimitAmount {
    /// Accepts the amount or the burst of a rate: 1 to [`Self::MAX_RATE`].
    ///
    /// # Errors
    /// [`InvalidLimit::RateAmount`].
    pub fn of_rate(amount: i64) -> Result<Self, InvalidLimit> {
        let amount = Self::new(amount).map_err(|_| InvalidLimit::RateAmount)?;
        if (1..=Self::MAX_RATE.get()).contains(&amount.get()) {
            Ok(amount)
        } else {
            Err(InvalidLimit::RateAmount)
        }
    }

    /// Accepts the amount of a refill: 1 to [`Self::MAX`].
    ///
    /// # Errors
    /// [`InvalidLimit::RefillAmount`].
    pub fn of_refill(amount: i64) -> Result<Self, InvalidLimit> {
        let amount = Self::new(amount).map_err(|_| InvalidLimit::RefillAmount)?;
        if amount.get() > 0 { Ok(amount) } else { Err(InvalidLimit::RefillAmount) }
    }

    /// Returns the number, as stored.
    #[must_use]
    pub fn as_i64(self) -> i64 {
        i64::try_from(self.get()).unwrap_or(i64::MAX)
    }
}

impl QuotaWindow {
    /// Accepts the length of a rolling window: [`Self::MIN_ROLLING`] to [`Self::MAX_ROLLING`], whole milliseconds.
    ///
    /// # Errors
    /// [`InvalidLimit::RollingWindow`].
    pub fn rolling(length: Duration) -> Result<Self, InvalidLimit> {
        let is_valid = is_within(length, (Self::MIN_ROLLING, Self::MAX_ROLLING));
        if is_valid { Ok(Self::Rolling(length)) } else { Err(InvalidLimit::RollingWindow) }
    }
}

impl Rate {
    /// Accepts the period of a rate: 1 second to 1 day, whole milliseconds.
    ///
    /// # Errors
    /// [`InvalidLimit::RatePeriod`].
    pub fn period(period: Duration) -> Result<Duration, InvalidLimit> {
        let is_valid = is_within(period, (Duration::from_secs(1), Duration::from_secs(86_400)));
        if is_valid { Ok(period) } else { Err(InvalidLimit::RatePeriod) }
    }
}

impl CalendarWindow {
    /// Returns the window with a stored name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|window| window.as_str() == text)
    }
}

impl OutagePolicy {
    /// Returns the policy with a stored name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(number: i64) -> LimitAmount {
        LimitAmount::new(number).unwrap()
    }

    #[test]
    fn stored_rule_round_trips() {
        let refill = |max| Refill { amount: amount(5), every: CalendarWindow::Month, max_balance: max };
        let rules = [
            LimitRule::Quota(Quota { amount: amount(0), window: QuotaWindow::Calendar(CalendarWindow::Day) }),
            LimitRule::Quota(Quota {
                amount: LimitAmount::MAX,
                window: QuotaWindow::Rolling(Duration::from_millis(60_001)),
            }),
            LimitRule::Credits(Credits { initial: amount(0), refill: None }),
            LimitRule::Credits(Credits { initial: amount(7), refill: Some(refill(None)) }),
            LimitRule::Credits(Credits { initial: amount(7), refill: Some(refill(Some(amount(9)))) }),
            LimitRule::Rate(Rate { amount: amount(1), per: Duration::from_secs(1), burst: amount(1) }),
        ];
        for rule in rules {
            assert_eq!(StoredRule::of(&rule).rule(), Some(rule));
        }
    }

    #[test]
    fn rule_that_nobody_could_set_is_unreadable() {
        let day = StoredRule { kind: "day".to_owned(), amount: 5, ..StoredRule::default() };
        assert!(day.rule().is_some());
        let rate = StoredRule { kind: "rate".to_owned(), period_ms: 1_000, burst: 1, ..day.clone() };
        assert!(rate.rule().is_some());
        for rule in [
            StoredRule { kind: "week".to_owned(), ..day.clone() },
            StoredRule { amount: -1, ..day.clone() },
            StoredRule { amount: 1_000_000_000_001, ..day.clone() },
            StoredRule { burst: 1, ..day.clone() },
            StoredRule { kind: "rolling:60000".to_owned(), period_ms: 120_000, ..day.clone() },
            StoredRule { kind: "rolling:1000".to_owned(), period_ms: 1_000, ..day.clone() },
            StoredRule { kind: "credits".to_owned(), refill_every: "week".to_owned(), ..day.clone() },
            StoredRule { kind: "credits".to_owned(), refill_every: "day".to_owned(), ..day },
            StoredRule { burst: 0, ..rate.clone() },
            StoredRule { amount: 1_000_000_001, ..rate.clone() },
            StoredRule { period_ms: 999, ..rate },
        ] {
            assert_eq!(rule.rule(), None, "{rule:?}");
        }
    }
}
