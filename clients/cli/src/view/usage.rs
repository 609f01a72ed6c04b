//! The view of the usage of a tenant.

use std::collections::BTreeMap;

use serde::Serialize;
use tenant_auth_client::proto;

use super::{to_moment, to_text};
use crate::{
    failure::Failure,
    output::{self, View},
    time::Moment,
};

/// The maximum width of a bar, in characters.
const MAX_BAR_WIDTH: i64 = 40;
/// One eighth to seven eighths of a character.
const PARTIAL_BLOCKS: [char; 7] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];

#[derive(Debug, Serialize)]
pub(crate) struct UsageView {
    tenant_id: String,
    sums: Vec<SumView>,
    /// Whether to draw bars, for a user at a terminal.
    #[serde(skip)]
    plot: bool,
}

#[derive(Debug, Serialize)]
struct SumView {
    start: Option<Moment>,
    metric: String,
    quantity: i64,
}

impl UsageView {
    pub(crate) fn new(tenant_id: String, sums: Vec<proto::UsageSum>, plot: bool) -> Self {
        let sum = |sum: proto::UsageSum| SumView {
            start: to_moment(sum.bucket_start),
            metric: sum.metric,
            quantity: sum.quantity,
        };
        Self { tenant_id, sums: sums.into_iter().map(sum).collect(), plot }
    }

    /// Returns the totals as comma-separated values with a header.
    pub(crate) fn csv(&self) -> Result<String, Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::Unexpected(format!("cannot write the result as CSV: {error}"))
        };
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(["tenant_id", "start", "metric", "quantity"]).map_err(|error| failed(&error))?;
        for sum in &self.sums {
            let (start, quantity) = (to_text(sum.start), sum.quantity.to_string());
            writer
                .write_record([&self.tenant_id, &start, &sum.metric, &quantity])
                .map_err(|error| failed(&error))?;
        }
        let bytes = writer.into_inner().map_err(|error| failed(&error))?;
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }
}

impl View for UsageView {
    fn text(&self) -> String {
        // Each metric has its own unit, so bars are scaled per metric.
        let mut largest = BTreeMap::new();
        for sum in &self.sums {
            let largest = largest.entry(sum.metric.as_str()).or_insert(0);
            *largest = sum.quantity.max(*largest);
        }
        let row = |sum: &SumView| {
            let mut row = vec![to_text(sum.start), sum.metric.clone(), sum.quantity.to_string()];
            if self.plot {
                row.push(bar(sum.quantity, largest.get(sum.metric.as_str()).copied().unwrap_or_default()));
            }
            row
        };
        let header: &[&str] =
            if self.plot { &["START", "METRIC", "QUANTITY", ""] } else { &["START", "METRIC", "QUANTITY"] };
        output::render_table(header, self.sums.iter().map(row))
    }
}

/// Returns a bar of at most [`MAX_BAR_WIDTH`] characters, in steps of an eighth. Any quantity above zero is
/// visible.
fn bar(quantity: i64, largest: i64) -> String {
    let eighths = i128::from(quantity) * i128::from(MAX_BAR_WIDTH) * 8 / i128::from(largest.max(1));
    let eighths = usize::try_from(eighths).unwrap_or_default().max(usize::from(quantity > 0));
    let mut bar = "█".repeat(eighths / 8);
    bar.extend((eighths % 8).checked_sub(1).and_then(|part| PARTIAL_BLOCKS.get(part)));
    // An empty value would be shown as a dash.
    if bar.is_empty() { " ".to_owned() } else { bar }
}

#[derive(Debug, Serialize)]
pub(crate) struct RecordedView {
    pub(crate) id: String,
    pub(crate) already_recorded: bool,
}

impl View for RecordedView {
    fn text(&self) -> String {
        let outcome = if self.already_recorded { "was already recorded" } else { "is recorded" };
        format!("{} {outcome}", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(plot: bool) -> UsageView {
        let sum = |start, metric: &str, quantity| SumView {
            start: Some(crate::time::parse_moment(start).unwrap()),
            metric: metric.to_owned(),
            quantity,
        };
        let (first, second) = ("2030-01-31T00:00:00Z", "2030-02-01T00:00:00Z");
        let sums = vec![sum(first, "calls", 100), sum(first, "tokens", 8_000), sum(second, "calls", 50)];
        UsageView { tenant_id: "acme".to_owned(), sums, plot }
    }

    #[test]
    fn bars_are_terminal_only_and_scaled_per_metric() {
        let (plain, plotted) = (view(false).text(), view(true).text());
        assert!(plain.is_ascii(), "{plain}");
        let lengths = |text: &str| text.lines().map(|line| line.matches('█').count()).collect::<Vec<_>>();
        assert_eq!(lengths(&plain), [0, 0, 0, 0]);
        assert_eq!(lengths(&plotted), [0, 40, 40, 20]);
    }

    #[test]
    fn bars_have_eighth_block_precision() {
        assert_eq!(bar(0, 0), " ");
        assert_eq!(bar(1, 1_000_000), "▏");
        assert_eq!(bar(3, 80), "█▌");
        assert_eq!(bar(i64::MAX, i64::MAX).chars().count(), 40);
    }

    #[test]
    fn csv_has_a_header_and_a_line_per_sum() {
        let csv = view(true).csv().unwrap();
        let lines: Vec<_> = csv.lines().collect();
        assert_eq!(lines[0], "tenant_id,start,metric,quantity");
        assert_eq!(lines[2], "acme,2030-01-31T00:00:00Z,tokens,8000");
        assert_eq!(lines.len(), 4);
    }
}
