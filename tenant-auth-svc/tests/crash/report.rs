//! What came of the kills, and what must have.

use std::io::Write as _;

use crate::ledger::Differences;

/// What came of one scenario.
pub(crate) struct Report {
    pub(crate) name: &'static str,
    pub(crate) kills: usize,
    /// Kills that found requests under way, and how many requests these were in all.
    pub(crate) mid_flight: usize,
    pub(crate) in_flight: usize,
    pub(crate) acknowledged: usize,
    pub(crate) retried: usize,
    pub(crate) already_recorded: usize,
    pub(crate) events_acknowledged: usize,
    pub(crate) events_stored: usize,
    pub(crate) differences: Differences,
    /// The exit code of `reconcile`, and what it said.
    pub(crate) reconcile: (Option<i32>, String),
}

impl Report {
    /// Whether nothing was lost or counted twice, and the kills were such that something might have been.
    pub(crate) fn check(&self) {
        let Self { name, differences: Differences { lost, duplicated: twice }, .. } = self;
        assert!(lost.is_empty(), "{name}: lost\n{}", lost.join("\n"));
        assert!(twice.is_empty(), "{name}: counted twice\n{}", twice.join("\n"));
        assert_eq!(self.events_stored, self.events_acknowledged, "{name}: every event is one row");
        assert_eq!(self.reconcile.0, Some(0), "{name}: {}", self.reconcile.1);
        assert!(self.mid_flight * 2 >= self.kills, "{name}: only {} found requests", self.mid_flight);
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

/// "in flight": requests that were under way at the kills. "retried": sent more than once; "already recorded": of these, the
/// ones whose answer and not whose commit had been lost.
pub(crate) fn print_head() {
    print_uncaptured(
        "\nkilled                       kills  in flight  acknowledged  retried  already recorded  events stored  lost  \
         twice  reconcile\n",
    );
}

/// Past the capture of passing tests: it is meant to be seen.
pub(crate) fn print_uncaptured(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
