//! The results of the kills, and the expected values.

use crate::{ledger::Differences, settings::print_uncaptured};

/// The result of one scenario.
pub(crate) struct Report {
    pub(crate) name: &'static str,
    pub(crate) kills: usize,
    /// Number of kills that interrupted requests, and the number of these requests.
    pub(crate) mid_flight: usize,
    pub(crate) in_flight: usize,
    pub(crate) acknowledged: usize,
    pub(crate) retried: usize,
    pub(crate) already_recorded: usize,
    pub(crate) events_acknowledged: usize,
    pub(crate) events_stored: usize,
    pub(crate) differences: Differences,
    /// The exit code of `reconcile`, and its output.
    pub(crate) reconcile: (Option<i32>, String),
}

impl Report {
    /// Asserts that nothing was lost or counted twice, and that the kills were such that it could have been.
    pub(crate) fn check(&self) {
        let Self { name, differences: Differences { lost, duplicated: twice }, .. } = self;
        assert!(lost.is_empty(), "{name}: lost\n{}", lost.join("\n"));
        assert!(twice.is_empty(), "{name}: counted twice\n{}", twice.join("\n"));
        assert_eq!(self.events_stored, self.events_acknowledged, "{name}: every event is one row");
        assert_eq!(self.reconcile.0, Some(0), "{name}: {}", self.reconcile.1);
        assert!(
            self.mid_flight * 2 >= self.kills,
            "{name}: only {} kills interrupted requests",
            self.mid_flight
        );
    }

    pub(crate) fn print_row(&self) {
        print_uncaptured(&format!(
            "{:<27} {:>6} {:>10} {:>13} {:>8} {:>17} {:>14} {:>5} {:>6} {:>10}\n",
            self.name,
            self.kills,
            self.in_flight,
            self.acknowledged,
            self.retried,
            self.already_recorded,
            self.events_stored,
            self.differences.lost.len(),
            self.differences.duplicated.len(),
            self.reconcile.0.map_or_else(|| "killed".to_owned(), |code| format!("exit {code}")),
        ));
    }
}

/// "in flight": requests in flight at the kills. "retried": requests sent more than once. "already recorded":
/// retried requests whose response was lost, but not their commit.
pub(crate) fn print_head() {
    print_uncaptured(
        "\nkilled                       kills  in flight  acknowledged  retried  already recorded  events stored  lost  \
         twice  reconcile\n",
    );
}
