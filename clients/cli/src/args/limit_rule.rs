//! The rule of a limit, as an operator writes it.

use std::time::Duration;

use clap::Args;
use tenant_auth_client::proto::{self, CalendarWindow, limit::Rule, quota::Window};

use crate::time;

#[derive(Clone, Debug, Args)]
#[group(skip)]
#[command(group = clap::ArgGroup::new("rule").required(true))]
pub(crate) struct LimitRule {
    /// An amount per hour, day or month in UTC, such as 10000/day, or per any interval, such as 500/rolling:1h
    #[arg(long, group = "rule", value_parser = parse_quota, value_name = "AMOUNT/WINDOW")]
    quota: Option<proto::Quota>,

    /// A rate with burst, such as 10/s, 600/m or 5/10s
    #[arg(long, group = "rule", value_parser = parse_rate, value_name = "AMOUNT/TIME")]
    rate: Option<proto::Rate>,

    /// The most that --rate admits at once; default: the amount of the rate
    #[arg(long, conflicts_with_all = ["quota", "credits"], value_parser = parse_amount, value_name = "N")]
    burst: Option<i64>,

    /// A balance: what it is at the start
    #[arg(long, group = "rule", value_parser = parse_amount, value_name = "N")]
    credits: Option<i64>,

    /// Refill --credits at the start of each hour, day or month in UTC, such as 1000/month
    #[arg(long, conflicts_with_all = ["quota", "rate"], value_parser = parse_refill, value_name = "AMOUNT/WINDOW")]
    refill: Option<proto::CreditRefill>,

    /// What --refill raises the balance to, at most; default: no maximum
    #[arg(long, requires = "refill", conflicts_with_all = ["quota", "rate"], value_parser = parse_amount, value_name = "N")]
    max_balance: Option<i64>,
}

impl LimitRule {
    /// Returns the rule; one of the options is required.
    pub(crate) fn to_message(&self) -> Option<Rule> {
        let credits = |initial| {
            let max_balance = self.max_balance.unwrap_or_default();
            let refill = self.refill.map(|refill| proto::CreditRefill { max_balance, ..refill });
            Rule::Credits(proto::Credits { initial, refill })
        };
        let rate = |rate| Rule::Rate(proto::Rate { burst: self.burst.unwrap_or_default(), ..rate });
        self.quota.map(Rule::Quota).or(self.rate.map(rate)).or(self.credits.map(credits))
    }
}

/// Parses a number, such as 1000 or `1_000`.
pub(crate) fn parse_amount(text: &str) -> Result<i64, String> {
    let number = text.replace('_', "");
    number.parse().map_err(|_| "must be a whole number such as 1000".to_owned())
}

fn parse_quota(text: &str) -> Result<proto::Quota, String> {
    const INVALID: &str =
        "must be an amount and a window: such as 10000/day, 100/hour, 1000/month or 500/rolling:1h";
    let (amount, window) = text.split_once('/').ok_or(INVALID)?;
    let window = match window.split_once(':') {
        Some(("rolling", length)) => Window::Rolling(to_duration(time::parse_nonzero_span(length)?)?),
        Some(_) => return Err(INVALID.to_owned()),
        None => Window::Calendar(parse_calendar(window).ok_or(INVALID)?.into()),
    };
    Ok(proto::Quota { amount: parse_amount(amount)?, window: Some(window) })
}

fn parse_refill(text: &str) -> Result<proto::CreditRefill, String> {
    const INVALID: &str = "must be an amount and a window: such as 1000/month, 100/day or 10/hour";
    let (amount, every) = text.split_once('/').ok_or(INVALID)?;
    let every = parse_calendar(every).ok_or(INVALID)?.into();
    Ok(proto::CreditRefill { amount: parse_amount(amount)?, every, max_balance: 0 })
}

fn parse_rate(text: &str) -> Result<proto::Rate, String> {
    let (amount, per) =
        text.split_once('/').ok_or("must be an amount and a time: such as 10/s, 600/m or 5/10s")?;
    // 10/s is 10/1s.
    let per = if per.starts_with(|c: char| c.is_ascii_digit()) { per.to_owned() } else { format!("1{per}") };
    let per = to_duration(time::parse_nonzero_span(&per)?)?;
    Ok(proto::Rate { amount: parse_amount(amount)?, per: Some(per), burst: 0 })
}

fn parse_calendar(text: &str) -> Option<CalendarWindow> {
    [CalendarWindow::Hour, CalendarWindow::Day, CalendarWindow::Month]
        .into_iter()
        .find(|window| calendar_name(*window) == text)
}

fn to_duration(length: Duration) -> Result<prost_types::Duration, String> {
    length.try_into().map_err(|_| "the time is too long".to_owned())
}

fn calendar_name(window: CalendarWindow) -> &'static str {
    match window {
        CalendarWindow::Hour => "hour",
        CalendarWindow::Day => "day",
        CalendarWindow::Month => "month",
        CalendarWindow::Unspecified => "unknown",
    }
}

/// Formats the window of a quota as [`LimitRule`] takes it.
pub(crate) fn format_window(quota: &proto::Quota) -> String {
    match quota.window {
        Some(Window::Rolling(length)) => format!("rolling:{}", format_duration(Some(length))),
        Some(Window::Calendar(window)) => {
            CalendarWindow::try_from(window).map_or("unknown", calendar_name).to_owned()
        }
        None => "unknown".to_owned(),
    }
}

/// Formats the window of a refill as [`LimitRule`] takes it.
pub(crate) fn format_every(refill: &proto::CreditRefill) -> &'static str {
    calendar_name(refill.every())
}

/// Formats a rule in one line.
pub(crate) fn format_rule(rule: &Rule) -> String {
    match rule {
        Rule::Quota(quota) => format!("{}/{}", quota.amount, format_window(quota)),
        Rule::Rate(rate) => {
            format!("{}/{} burst {}", rate.amount, format_duration(rate.per), rate.burst)
        }
        Rule::Credits(proto::Credits { initial, refill: None }) => format!("{initial} credits"),
        Rule::Credits(proto::Credits { initial, refill: Some(refill) }) => {
            let max = match refill.max_balance {
                0 => String::new(),
                max => format!(" up to {max}"),
            };
            format!("{initial} credits + {}/{}{max}", refill.amount, format_every(refill))
        }
    }
}

fn format_duration(length: Option<prost_types::Duration>) -> String {
    let length: Duration = length.and_then(|length| length.try_into().ok()).unwrap_or_default();
    time::format_exact(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_shown_as_they_are_written() {
        for text in ["10000/day", "0/hour", "1000/month", "500/rolling:1h", "5/rolling:90m", "5/rolling:366d"]
        {
            assert_eq!(format_rule(&Rule::Quota(parse_quota(text).unwrap())), text);
        }
        for (text, shown) in
            [("10/s", "10/1s"), ("600/m", "600/1m"), ("5/10s", "5/10s"), ("1/1500ms", "1/1500ms")]
        {
            let rate = proto::Rate { burst: 20, ..parse_rate(text).unwrap() };
            assert_eq!(format_rule(&Rule::Rate(rate)), format!("{shown} burst 20"));
        }
        let credits = |refill| format_rule(&Rule::Credits(proto::Credits { initial: 7, refill }));
        assert_eq!(credits(None), "7 credits");
        let refill = parse_refill("1_000/month").unwrap();
        assert_eq!(credits(Some(refill)), "7 credits + 1000/month");
        let capped = proto::CreditRefill { max_balance: 5_000, ..refill };
        assert_eq!(credits(Some(capped)), "7 credits + 1000/month up to 5000");
    }

    #[test]
    fn invalid_rules_are_refused_with_an_example() {
        for text in ["", "10000", "x/day", "10/week", "10/rolling", "10/rolling:", "10/sliding:1h", "10/1h"] {
            assert!(parse_quota(text).is_err(), "{text}");
        }
        assert!(parse_quota("10/week").unwrap_err().contains("such as 10000/day"));
        for text in ["", "10", "10/", "10/soon", "x/s", "10/0s"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
        for text in ["", "10", "10/rolling:1h", "1.5/day"] {
            assert!(parse_refill(text).is_err(), "{text}");
        }
    }
}
