//! What a tenant may use, and how much of it is left.

use std::time::Duration;

use maud::{Markup, html};
use tenant_auth_proto::v1::{self, limit::Rule};

use crate::console::{
    html::{duration, scrolling_table, text},
    numbers::{grouped, percentage},
};

/// A table of limits.
pub(in crate::console) fn show(state: &v1::GetLimitStateResponse) -> Markup {
    html! {
        @if state.limits.is_empty() {
            p.empty { "Nothing is limited. " code { "tenantctl limit set" } " sets a limit." }
        } @else {
            (scrolling_table("Limits",
                &["Limit", "Of", "Used", "Set aside#", "Left#", "More in"],
                &html! { @for limit in &state.limits { (row(limit)) } }))
        }
    }
}

fn row(state: &v1::LimitState) -> Markup {
    let limit = state.limit.clone().unwrap_or_default();
    let used = state.used.saturating_add(state.unaccounted);
    let set_aside = state.reserved.saturating_add(state.leased);
    let (rule, whole) = describe(limit.rule.as_ref());
    let whole = whole.unwrap_or_else(|| used.saturating_add(set_aside).saturating_add(state.remaining));
    let more_in = state.reset_after.and_then(|after| Duration::try_from(after).ok());
    html! {
        tr {
            td {
                (text(&limit.name))
                @if limit.shadow { " " span.tag { "only counted" } }
                br; span.quiet-text { (rule) }
            }
            td.mono { (text(&limit.metric)) }
            td {
                meter min="0" max=(whole.max(1)) value=(used.clamp(0, whole.max(1)))
                    high=(whole.saturating_div(10).saturating_mul(9)) aria-label="Used" {}
                " " (grouped(used)) " of " (grouped(whole))
                @if let Some(share) = percentage(used, whole) { " (" (share) " %)" }
            }
            td.number { (grouped(set_aside)) }
            td.number { (grouped(state.remaining)) }
            td { @if let Some(more_in) = more_in { (duration(more_in)) } @else { span.none { "–" } } }
        }
    }
}

/// The rule in words, and what is there in all, where the rule says it.
fn describe(rule: Option<&Rule>) -> (String, Option<i64>) {
    match rule {
        Some(Rule::Quota(quota)) => {
            let window = match quota.window {
                Some(v1::quota::Window::Calendar(window)) => calendar(window).to_owned(),
                Some(v1::quota::Window::Rolling(length)) => length_text(Some(length)),
                None => "window".to_owned(),
            };
            (format!("{} per {window}", grouped(quota.amount)), Some(quota.amount))
        }
        Some(Rule::Credits(credits)) => {
            let refill = match &credits.refill {
                Some(refill) => format!(", {} more each {}", grouped(refill.amount), calendar(refill.every)),
                None => String::new(),
            };
            (format!("credits{refill}"), None)
        }
        Some(Rule::Rate(rate)) => {
            let burst = if rate.burst > 0 { rate.burst } else { rate.amount };
            let per = rate.per.map_or_else(|| "s".to_owned(), |per| length_text(Some(per)));
            (format!("{} per {per}, {} at once", grouped(rate.amount), grouped(burst)), Some(burst))
        }
        None => ("a rule that this version does not know".to_owned(), None),
    }
}

fn calendar(window: i32) -> &'static str {
    match v1::CalendarWindow::try_from(window) {
        Ok(v1::CalendarWindow::Hour) => "hour",
        Ok(v1::CalendarWindow::Day) => "day",
        Ok(v1::CalendarWindow::Month) => "month",
        Ok(v1::CalendarWindow::Unspecified) | Err(_) => "window",
    }
}

fn length_text(length: Option<prost_types::Duration>) -> String {
    duration(length.and_then(|length| length.try_into().ok()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_told_in_words() {
        let day = v1::CalendarWindow::Day.into();
        let week = prost_types::Duration { seconds: 7 * 86_400, nanos: 0 };
        let refill = v1::CreditRefill { amount: 500, every: day, max_balance: 0 };
        for (rule, words, whole) in [
            (
                Rule::Quota(v1::Quota { amount: 1_000, window: Some(v1::quota::Window::Calendar(day)) }),
                "1,000 per day",
                Some(1_000),
            ),
            (
                Rule::Quota(v1::Quota { amount: 9, window: Some(v1::quota::Window::Rolling(week)) }),
                "9 per 7 d",
                Some(9),
            ),
            (Rule::Credits(v1::Credits { initial: 5, refill: None }), "credits", None),
            (
                Rule::Credits(v1::Credits { initial: 5, refill: Some(refill) }),
                "credits, 500 more each day",
                None,
            ),
            (Rule::Rate(v1::Rate { amount: 10, per: None, burst: 0 }), "10 per s, 10 at once", Some(10)),
        ] {
            assert_eq!(describe(Some(&rule)), (words.to_owned(), whole));
        }
    }
}
