//! The outcomes of all cases or scenes, as a table.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "output for the terminal")]

use std::{collections::BTreeMap, time::Duration};

use comfy_table::{Table, presets};

use crate::language::LANGUAGES;

/// The outcome of a case, or of all cases of a language.
#[derive(Debug)]
pub enum Outcome {
    /// Passed, with a measurement if there is one.
    Passed(Option<String>),
    /// Failed, with the expected and the actual value.
    Failed(String),
    /// Skipped, with what is missing.
    Skipped(String),
}

impl Outcome {
    /// Passed without a measurement.
    pub const OK: Self = Self::Passed(None);

    fn cell(&self) -> &str {
        match self {
            Self::Passed(measured) => measured.as_deref().unwrap_or("ok"),
            Self::Failed(_) => "FAILED",
            Self::Skipped(_) => "SKIPPED",
        }
    }
}

/// All outcomes.
#[derive(Debug, Default)]
pub struct Report {
    languages: BTreeMap<&'static str, Outcome>,
    cases: BTreeMap<(String, &'static str), Outcome>,
}

impl Report {
    /// Adds one outcome for a language whose cases did not run.
    pub fn add_language(&mut self, language: &'static str, outcome: Outcome) {
        self.languages.insert(language, outcome);
    }

    /// Adds the outcome of a case.
    pub fn add_case(&mut self, case: &str, language: &'static str, outcome: Outcome) {
        self.cases.insert((case.to_owned(), language), outcome);
    }

    /// Returns whether any outcome is a failure.
    #[must_use]
    pub fn has_failures(&self) -> bool {
        self.languages
            .values()
            .chain(self.cases.values())
            .any(|outcome| matches!(outcome, Outcome::Failed(_)))
    }

    /// Prints the table of the cases in the given order, followed by the failures and the skipped cases.
    pub fn print(&self, order: &[String], prepared: Duration, took: Duration) {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(std::iter::once("case").chain(LANGUAGES.iter().map(|language| language.name)));
        let mut order = order.to_vec();
        order.dedup();
        for case in order {
            let cell = |language: &'static str| {
                let outcome = self.cases.get(&(case.clone(), language)).or(self.languages.get(language));
                outcome.map_or("-", Outcome::cell)
            };
            let cells = LANGUAGES.iter().map(|language| cell(language.name));
            table.add_row(std::iter::once(case.as_str()).chain(cells));
        }
        println!("{table}");
        for (language, outcome) in &self.languages {
            match outcome {
                Outcome::Skipped(detail) => eprintln!("SKIPPED: all tests of {language}: {detail}"),
                Outcome::Failed(detail) => eprintln!("FAILED: all tests of {language}: {detail}"),
                Outcome::Passed(_) => {}
            }
        }
        for ((case, language), outcome) in &self.cases {
            match outcome {
                Outcome::Skipped(detail) => eprintln!("SKIPPED: {language}: {case}: {detail}"),
                Outcome::Failed(detail) => eprintln!("\nFAILED: {language}: {case}\n{detail}"),
                Outcome::Passed(_) => {}
            }
        }
        let (runs, prepared, took) = (self.cases.len(), prepared.as_secs_f64(), took.as_secs_f64());
        println!("{runs} runs in {took:.1} s, after {prepared:.1} s to prepare the runners");
    }
}
