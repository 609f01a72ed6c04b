//! A bar for each interval of time.

use maud::{Markup, html};

use super::{html::text, numbers::grouped};

const WIDTH: i64 = 720;
const HEIGHT: i64 = 120;
/// The width of the space between two bars.
const GAP: i64 = 2;

/// What a plot shows.
#[derive(Debug)]
pub(super) struct Bars<'a> {
    /// What is counted.
    pub(super) name: &'a str,
    /// The label of each interval, and its value.
    pub(super) values: &'a [(String, i64)],
    /// What each value may be at most.
    pub(super) limit: Option<i64>,
}

impl Bars<'_> {
    /// The plot, and the same as a table.
    pub(super) fn show(&self) -> Markup {
        let total = self.values.iter().fold(0_i64, |sum, (_, value)| sum.saturating_add(*value));
        let most = self.values.iter().map(|(_, value)| *value).max().unwrap_or_default();
        let top = most.max(self.limit.unwrap_or_default()).max(1);
        let height = |value: i64| {
            let scaled = i128::from(value.clamp(0, top)) * i128::from(HEIGHT) / i128::from(top);
            // A little is not nothing.
            i64::try_from(scaled).unwrap_or(HEIGHT).max(i64::from(value > 0))
        };
        let step = WIDTH / i64::try_from(self.values.len()).unwrap_or(1).max(1);
        let places = (0_i64..).map(|place| place * step);
        html! {
            figure.bars {
                figcaption {
                    (text(self.name)) ": " (grouped(total)) " in all, at most " (grouped(most)) " in one interval"
                    @if let Some(limit) = self.limit { ", of " (grouped(limit)) " that the limit permits" }
                    "."
                }
                svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" preserveAspectRatio="none"
                    aria-label={ "Usage per interval, at most " (grouped(most)) } {
                    @for ((label, value), place) in self.values.iter().zip(places) {
                        @let bar = height(*value);
                        rect.bar x=(place) y=(HEIGHT - bar) width=((step - GAP).max(1)) height=(bar) {
                            title { (label) ": " (grouped(*value)) }
                        }
                    }
                    @if let Some(limit) = self.limit {
                        @let y = HEIGHT - height(limit);
                        line.limit x1="0" x2=(WIDTH) y1=(y) y2=(y) { title { "limit " (grouped(limit)) } }
                    }
                }
                div.ends {
                    @if let Some((label, _)) = self.values.first() { span { (label) } }
                    @if let Some((label, _)) = self.values.last() { span { (label) } }
                }
                details {
                    summary { "As a table" }
                    table {
                        thead { tr { th scope="col" { "From (UTC)" } th.number scope="col" { "Usage" } } }
                        tbody {
                            @for (label, value) in self.values.iter().rev() {
                                tr { td { (label) } td.number { (grouped(*value)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_scaled_to_the_limit_and_never_vanish() {
        let values = [("01".to_owned(), 0), ("02".to_owned(), 1), ("03".to_owned(), 5_000)];
        let shown = Bars { name: "<tokens>", values: &values, limit: Some(10_000) }.show().into_string();
        for expected in [
            "&lt;tokens&gt;</bdi>: 5,001 in all, at most 5,000 in one interval, of 10,000 that the limit permits.",
            "<rect class=\"bar\" x=\"0\" y=\"120\" width=\"238\" height=\"0\"><title>01: 0</title>",
            "<rect class=\"bar\" x=\"240\" y=\"119\" width=\"238\" height=\"1\"><title>02: 1</title>",
            "<rect class=\"bar\" x=\"480\" y=\"60\" width=\"238\" height=\"60\"><title>03: 5,000</title>",
            "<line class=\"limit\" x1=\"0\" x2=\"720\" y1=\"0\" y2=\"0\">",
        ] {
            assert!(shown.contains(expected), "{expected}: {shown}");
        }
    }

    #[test]
    fn no_values_and_huge_ones_are_shown() {
        assert!(Bars { name: "m", values: &[], limit: None }.show().into_string().contains("0 in all"));
        let values = [("01".to_owned(), i64::MAX), ("02".to_owned(), i64::MAX)];
        let shown = Bars { name: "m", values: &values, limit: None }.show().into_string();
        assert!(shown.contains("height=\"120\""), "{shown}");
    }
}
