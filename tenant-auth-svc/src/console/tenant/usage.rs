//! What a tenant has used, by hour, day or month.

use std::{collections::BTreeMap, time::Duration};

use maud::{Markup, html};
use prost_types::Timestamp;
use serde::Deserialize;
use tenant_auth_proto::v1;

use super::View;
use crate::{
    console::{
        bars::Bars,
        parts::{Answer, answer},
        paths,
        person::Person,
        rpc::call,
    },
    domain::clock::UnixMillis,
    ops::format_rfc3339,
};

/// The maximum number of sums that are read.
const MAX_SUMS: i32 = 5_000;
const HOUR_MILLIS: i64 = 60 * 60 * 1_000;
const DAY_MILLIS: i64 = 24 * HOUR_MILLIS;

/// The width of a bar.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(in crate::console) enum Resolution {
    Hour,
    #[default]
    Day,
    Month,
}

impl Resolution {
    const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Month];

    fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    fn bucket(self) -> v1::UsageBucket {
        match self {
            Self::Hour => v1::UsageBucket::Hour,
            Self::Day => v1::UsageBucket::Day,
            Self::Month => v1::UsageBucket::Month,
        }
    }

    fn window(self) -> v1::CalendarWindow {
        match self {
            Self::Hour => v1::CalendarWindow::Hour,
            Self::Day => v1::CalendarWindow::Day,
            Self::Month => v1::CalendarWindow::Month,
        }
    }

    /// How many bars are shown.
    fn count(self) -> i64 {
        match self {
            Self::Hour => 48,
            Self::Day => 30,
            Self::Month => 12,
        }
    }

    /// The beginning of the first bar, or a little earlier.
    fn start(self, now: UnixMillis) -> UnixMillis {
        UnixMillis(match self {
            Self::Hour => now.0 - (self.count() - 1) * HOUR_MILLIS,
            Self::Day => now.0 - (self.count() - 1) * DAY_MILLIS,
            // The first of the month, eleven months before any day, is at most 366 days earlier.
            Self::Month => now.0 - 366 * DAY_MILLIS,
        })
    }

    /// How the beginning of an interval is shown.
    fn label(self, at: UnixMillis) -> String {
        let length = match self {
            Self::Hour => "2026-01-01T00".len(),
            Self::Day => "2026-01-01".len(),
            Self::Month => "2026-01".len(),
        };
        let label: String = format_rfc3339(at).chars().take(length).collect();
        if self == Self::Hour { label.replace('T', " ") + ":00" } else { label }
    }

    /// The labels of all bars, the oldest first.
    fn labels(self, now: UnixMillis) -> Vec<String> {
        let back = |number: i64| match self {
            Self::Hour => self.label(UnixMillis(now.0 - number * HOUR_MILLIS)),
            Self::Day => self.label(UnixMillis(now.0 - number * DAY_MILLIS)),
            Self::Month => month_before(&self.label(now), number),
        };
        (0..self.count()).rev().map(back).collect()
    }
}

/// The month `back` months before one such as `2026-01`.
fn month_before(month: &str, back: i64) -> String {
    let (year, month) = month.split_once('-').unwrap_or_default();
    let number = |text: &str| text.parse::<i64>().unwrap_or_default();
    let months = number(year) * 12 + number(month) - 1 - back;
    format!("{:04}-{:02}", months.div_euclid(12), months.rem_euclid(12) + 1)
}

/// Reads the usage of a tenant.
pub(super) async fn read(
    person: &Person,
    tenant_id: &str,
    resolution: Resolution,
    now: UnixMillis,
) -> Answer<v1::QueryUsageResponse> {
    let timestamp = |at: UnixMillis| {
        // At most 999,999,999, which fits.
        let nanos = i32::try_from(at.0.rem_euclid(1_000) * 1_000_000).unwrap_or_default();
        Some(Timestamp { seconds: at.0.div_euclid(1_000), nanos })
    };
    let request = v1::QueryUsageRequest {
        tenant_id: tenant_id.to_owned(),
        start_time: timestamp(resolution.start(now)),
        // The hour of the end counts entirely.
        end_time: timestamp(now.plus(Duration::from_secs(1))),
        bucket: resolution.bucket().into(),
        page_size: MAX_SUMS,
        ..Default::default()
    };
    answer(person.rpc.usage().query_usage(call(request)).await)
}

/// A plot for each metric.
pub(super) fn show(
    usage: &v1::QueryUsageResponse,
    limits: Option<&v1::GetLimitStateResponse>,
    (tenant_id, view): (&str, &View),
    now: UnixMillis,
) -> Markup {
    let resolution = view.usage;
    let mut metrics: BTreeMap<&str, BTreeMap<String, i64>> = BTreeMap::new();
    for sum in &usage.sums {
        let Some(start) = &sum.bucket_start else { continue };
        let label = resolution.label(UnixMillis(start.seconds.saturating_mul(1_000)));
        let value = metrics.entry(&sum.metric).or_default().entry(label).or_default();
        *value = value.saturating_add(sum.quantity);
    }
    let labels = resolution.labels(now);
    let plots = metrics.into_iter().map(|(metric, sums)| {
        let value = |label: &String| (label.clone(), sums.get(label).copied().unwrap_or_default());
        let values: Vec<_> = labels.iter().map(value).collect();
        let limit = limits.and_then(|limits| quota(limits, metric, resolution.window()));
        Bars { name: metric, values: &values, limit }.show()
    });
    let plots: Vec<_> = plots.collect();
    let path = paths::tenant(tenant_id);
    html! {
        p.switch {
            @for other in Resolution::ALL {
                @let target = paths::with_query(&path, &[("usage", other.name())]) + "#usage";
                a href=(target) aria-current=[(other == resolution).then_some("true")] { "by " (other.name()) }
                " "
            }
        }
        @if plots.is_empty() {
            p.empty { "Nothing was used in the last " (resolution.count()) " " (resolution.name()) "s." }
        }
        @for plot in &plots { (plot) }
        @if !usage.next_page_token.is_empty() {
            p { "These are the first " (usage.sums.len()) " sums: there are too many metrics to show all." }
        }
    }
}

/// What a metric may be at most in one interval, by the smallest quota with this window.
fn quota(limits: &v1::GetLimitStateResponse, metric: &str, window: v1::CalendarWindow) -> Option<i64> {
    let limits = limits.limits.iter().filter_map(|state| state.limit.as_ref());
    let of_metric = limits.filter(|limit| limit.metric == metric && !limit.shadow);
    let amount = of_metric.filter_map(|limit| match limit.rule.as_ref()? {
        v1::limit::Rule::Quota(quota) if quota.window == Some(v1::quota::Window::Calendar(window.into())) => {
            Some(quota.amount)
        }
        _ => None,
    });
    amount.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-03-31T23:30:00Z.
    const NOW: UnixMillis = UnixMillis(1_775_000_000_000 - 200_000);

    #[test]
    fn intervals_end_with_the_current_one() {
        let now = format_rfc3339(NOW);
        assert!(now.starts_with("2026-03-31T23"), "{now}");
        for (resolution, first, last) in [
            (Resolution::Hour, "2026-03-30 00:00", "2026-03-31 23:00"),
            (Resolution::Day, "2026-03-02", "2026-03-31"),
            (Resolution::Month, "2025-04", "2026-03"),
        ] {
            let labels = resolution.labels(NOW);
            assert_eq!((labels[0].as_str(), labels.last().unwrap().as_str()), (first, last));
            let start = resolution.label(resolution.start(NOW));
            assert!(start.as_str() <= first, "{start}: the first bar is complete");
        }
        assert_eq!(month_before("2026-01", 1), "2025-12");
    }
}
