//! The view of what is used of limits.

use std::time::Duration;

use serde::Serialize;
use tenant_auth_client::proto;

use super::{LimitView, to_moment, to_text};
use crate::{
    output::{self, View},
    time::{self, Moment},
};

/// The width of a bar, in characters.
const BAR_WIDTH: i128 = 20;

#[derive(Debug, Serialize)]
pub(crate) struct LimitStatesView {
    limits: Vec<StateView>,
    /// Whether the bars are drawn with blocks, for a user at a terminal.
    #[serde(skip)]
    is_terminal: bool,
}

#[derive(Debug, Serialize)]
struct StateView {
    #[serde(flatten)]
    limit: LimitView,
    used: i64,
    leased: i64,
    reserved: i64,
    unaccounted: i64,
    remaining: i64,
    window_start: Option<Moment>,
    reset_after_ms: Option<u64>,
}

impl LimitStatesView {
    pub(crate) fn new(states: Vec<proto::LimitState>, is_terminal: bool) -> Self {
        let state = |state: proto::LimitState| {
            let reset_after = state.reset_after.and_then(|after| Duration::try_from(after).ok());
            StateView {
                limit: LimitView::new(state.limit.unwrap_or_default()),
                used: state.used,
                leased: state.leased,
                reserved: state.reserved,
                unaccounted: state.unaccounted,
                remaining: state.remaining,
                window_start: to_moment(state.window_start),
                reset_after_ms: reset_after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
            }
        };
        Self { limits: states.into_iter().map(state).collect(), is_terminal }
    }
}

impl StateView {
    fn row(&self, is_terminal: bool) -> Vec<String> {
        let name =
            if self.limit.shadow { format!("{} (shadow)", self.limit.name) } else { self.limit.name.clone() };
        let (used, held) = (self.used + self.unaccounted, self.leased + self.reserved);
        let reset = self.reset_after_ms.map(|after| match after {
            // A full bucket.
            0 => "now".to_owned(),
            after => format!("in {}", time::format_coarse(Duration::from_millis(after))),
        });
        vec![
            name,
            self.limit.subject(),
            self.limit.metric.clone(),
            self.limit.rule_text.clone(),
            used.to_string(),
            self.leased.to_string(),
            self.reserved.to_string(),
            self.remaining.to_string(),
            bar([used, held, self.remaining], is_terminal),
            to_text(reset),
        ]
    }
}

const HEADER: [&str; 10] =
    ["LIMIT", "OF", "METRIC", "RULE", "USED", "LEASED", "RESERVED", "LEFT", "", "RESETS"];

impl View for LimitStatesView {
    fn text(&self) -> String {
        if self.limits.is_empty() {
            return "no limit applies".to_owned();
        }
        output::render_table(&HEADER, self.limits.iter().map(|state| state.row(self.is_terminal)))
    }

    fn note(&self) -> Option<&'static str> {
        let is_unaccounted = self.limits.iter().any(|state| state.unaccounted > 0);
        is_unaccounted.then_some(
            "USED includes what replicas held that ended without saying how much of it they had admitted",
        )
    }
}

/// Returns a bar of what is used, of what replicas and reservations hold, and of what is left. Each part above zero is
/// visible.
fn bar(parts: [i64; 3], is_terminal: bool) -> String {
    let parts = parts.map(|part| i128::from(part.max(0)));
    let total = parts.iter().sum::<i128>().max(1);
    let mut widths = parts.map(|part| {
        let cells = usize::try_from(part * BAR_WIDTH / total).unwrap_or_default();
        cells.max(usize::from(part > 0))
    });
    // The largest part takes what the others leave.
    let (largest, _) = parts.iter().enumerate().max_by_key(|(_, part)| **part).unwrap_or((0, &0));
    let others: usize =
        widths.iter().enumerate().filter(|(part, _)| *part != largest).map(|(_, width)| width).sum();
    if let Some(width) = widths.get_mut(largest) {
        *width = usize::try_from(BAR_WIDTH).unwrap_or_default().saturating_sub(others);
    }
    let symbols = if is_terminal { ["█", "▒", "·"] } else { ["#", "=", "."] };
    let cells: String = symbols.iter().zip(widths).map(|(symbol, width)| symbol.repeat(width)).collect();
    format!("[{cells}]")
}

#[cfg(test)]
mod tests {
    use tenant_auth_client::proto::{CalendarWindow, limit::Rule, quota::Window};

    use super::*;

    fn state(used: i64, leased: i64, remaining: i64) -> proto::LimitState {
        let window = Some(Window::Calendar(CalendarWindow::Day.into()));
        let limit = proto::Limit {
            name: "requests.daily".to_owned(),
            metric: "requests".to_owned(),
            rule: Some(Rule::Quota(proto::Quota { amount: 100, window })),
            ..Default::default()
        };
        proto::LimitState {
            limit: Some(limit),
            used,
            leased,
            remaining,
            reset_after: Some(prost_types::Duration { seconds: 7_300, nanos: 0 }),
            ..Default::default()
        }
    }

    #[test]
    fn state_is_a_table_with_a_bar() {
        let text = LimitStatesView::new(vec![state(50, 25, 25)], false).text();
        assert!(text.is_ascii(), "{text}");
        let line = text.lines().nth(1).unwrap();
        for part in ["requests.daily", "100/day", "[##########=====.....]", "in 2h"] {
            assert!(line.contains(part), "{line}");
        }
        let plotted = LimitStatesView::new(vec![state(50, 25, 25)], true).text();
        assert!(plotted.contains("[██████████▒▒▒▒▒·····]"), "{plotted}");
        let full = proto::LimitState { reset_after: Some(Default::default()), ..state(0, 0, 100) };
        assert!(LimitStatesView::new(vec![full], false).text().ends_with("]  now"));
        assert_eq!(LimitStatesView::new(vec![], true).text(), "no limit applies");
    }

    #[test]
    fn bar_shows_each_part_and_keeps_its_width() {
        for (parts, bar_text) in [
            ([0, 0, 100], "[....................]"),
            ([1, 0, 1_000_000], "[#...................]"),
            ([1_000_000, 1, 1], "[##################=.]"),
            ([100, 0, 0], "[####################]"),
            ([i64::MAX, i64::MAX, i64::MAX], "[######======........]"),
            ([-5, 0, 10], "[....................]"),
        ] {
            assert_eq!(bar(parts, false), bar_text, "{parts:?}");
        }
    }

    #[test]
    fn unaccounted_amounts_count_as_used_with_a_note() {
        let unaccounted = proto::LimitState { unaccounted: 30, ..state(20, 0, 50) };
        let view = LimitStatesView::new(vec![unaccounted], false);
        assert!(view.text().contains("[##########..........]"), "{}", view.text());
        assert!(view.note().is_some());
        assert!(LimitStatesView::new(vec![state(1, 1, 1)], false).note().is_none());
    }
}
