//! Prints the findings of a scan as they come.

use std::collections::HashSet;

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    exit::Exit,
    failure::Failure,
    output::{JsonList, Output, printable},
    scan::{Finding, FoundKey, Sink, Stopped},
    view::{FindingView, LeakView, ScanView},
};

/// Maximum keys that one scan reports. They are held in memory.
const MAX_LEAKS: usize = 100_000;

/// A key to report, and the first place where it was found.
#[derive(Debug)]
pub(super) struct Leak {
    pub(super) key: FoundKey,
    pub(super) place: String,
}

/// Prints each finding at once, so that a long scan needs no memory for them, and one that is interrupted has shown
/// what it found.
#[derive(Debug)]
pub(super) struct Printer {
    output: Output,
    /// Draws nothing if standard error is not a terminal.
    bar: ProgressBar,
    result: ScanResult,
    /// The keys among the leaks.
    leaked: HashSet<[u8; 32]>,
    collects_leaks: bool,
    failure: Option<Failure>,
}

/// The result of a scan, except for the findings that were printed.
#[derive(Debug)]
pub(super) struct ScanResult {
    /// `None` for text.
    json: Option<JsonList>,
    view: ScanView,
    /// Nobody reads the results.
    is_closed: bool,
    pub(super) leaks: Vec<Leak>,
}

impl Printer {
    pub(super) fn new(output: Output, collects_leaks: bool) -> Self {
        let bar = ProgressBar::no_length().with_style(progress_style());
        let view = ScanView { found: 0, files: 0, bytes: 0, unread: 0, reports: None };
        let json = output.is_json().then(|| JsonList::new("findings"));
        let result = ScanResult { json, view, is_closed: false, leaks: Vec::new() };
        Self { output, bar, result, leaked: HashSet::new(), collects_leaks, failure: None }
    }

    /// Returns the result after the last finding.
    pub(super) fn finish(self) -> Result<ScanResult, Failure> {
        self.bar.finish_and_clear();
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok(self.result),
        }
    }

    fn print(&mut self, finding: &FindingView) -> Result<bool, Failure> {
        let text = match &mut self.result.json {
            Some(list) => list.items(std::slice::from_ref(finding)).map_err(not_json)?,
            None => finding.text(),
        };
        self.bar.suspend(|| self.output.write_part(&text))
    }

    fn collect(&mut self, key: &FoundKey, place: String) {
        if !self.collects_leaks || self.leaked.contains(&key.sha256) {
            return;
        }
        if self.leaked.len() == MAX_LEAKS {
            self.collects_leaks = false;
            let note = format!("only the first {MAX_LEAKS} keys are reported: replace them and scan again");
            return self.bar.suspend(|| self.output.note(&note));
        }
        self.leaked.insert(key.sha256);
        self.result.leaks.push(Leak { key: key.clone(), place });
    }
}

impl Sink for Printer {
    fn found(&mut self, finding: Finding<'_>) -> Result<(), Stopped> {
        let view = FindingView::new(finding);
        self.result.view.found += 1;
        self.collect(finding.key, view.place());
        match self.print(&view) {
            Ok(true) => Ok(()),
            // The keys that were found are still reported.
            Ok(false) => {
                self.result.is_closed = true;
                Err(Stopped)
            }
            Err(failure) => {
                self.failure = Some(failure);
                Err(Stopped)
            }
        }
    }

    fn unread(&mut self, path: &str, why: &str) {
        self.result.view.unread += 1;
        self.bar.suspend(|| self.output.note(&format!("{}: {why}", printable(path))));
    }

    fn searched(&mut self, bytes: u64) {
        self.result.view.bytes += bytes;
        self.bar.inc(bytes);
    }

    fn finished(&mut self) {
        self.result.view.files += 1;
    }
}

impl ScanResult {
    /// Adds what the service did about a key.
    pub(super) fn add_report(&mut self, report: LeakView) {
        self.view.reports.get_or_insert_default().push(report);
    }

    /// Prints the reports and the numbers.
    pub(super) fn show(self, output: Output) -> Result<Exit, Failure> {
        let Self { json, view, is_closed, .. } = self;
        let exit = match &view {
            ScanView { found: 1.., .. } => Exit::Denied,
            ScanView { unread: 1.., .. } => Exit::Incomplete,
            ScanView { .. } => Exit::Done,
        };
        if is_closed {
            return Ok(exit);
        }
        let text = match json {
            Some(list) => list.end(&view).map_err(not_json)?,
            None => view.reports.iter().flatten().map(LeakView::text).collect(),
        };
        output.write_part(&text)?;
        output.advise(&format!(
            "{}; {} scanned, {} bytes; {} could not be read completely",
            count(view.found, "finding"),
            count(view.files, "file"),
            view.bytes,
            view.unread
        ));
        Ok(exit)
    }
}

fn not_json(error: serde_json::Error) -> Failure {
    Failure::Unexpected(format!("cannot write the result as JSON: {error}"))
}

fn count(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn progress_style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {binary_bytes} scanned, {binary_bytes_per_sec}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}
