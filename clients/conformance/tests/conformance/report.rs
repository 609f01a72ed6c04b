//! What became of each case, as a table.

use std::{collections::BTreeMap, time::Duration};

use comfy_table::{Table, presets};
use tenant_auth_conformance::language::LANGUAGES;

/// What became of a case, or of all cases of a language.
#[derive(Debug)]
pub(crate) enum Outcome {
    Passed,
    /// With what was expected and what came.
    Failed(String),
    /// With what is missing.
    Skipped(String),
}

impl Outcome {
    fn cell(&self) -> &'static str {
        match self {
            Self::Passed => "ok",
            Self::Failed(_) => "FAILED",
            Self::Skipped(_) => "SKIPPED",
        }
    }
}

/// All outcomes.
#[derive(Debug, Default)]
pub(crate) struct Report {
    languages: BTreeMap<&'static str, Outcome>,
    cases: BTreeMap<(String, &'static str), Outcome>,
}

impl Report {
    /// None of the language's cases were run.
    pub(crate) fn language(&mut self, language: &'static str, outcome: Outcome) {
        self.languages.insert(language, outcome);
    }

    pub(crate) fn case(&mut self, case: &str, language: &'static str, outcome: Outcome) {
        self.cases.insert((case.to_owned(), language), outcome);
    }

    pub(crate) fn failed(&self) -> bool {
        self.languages
            .values()
            .chain(self.cases.values())
            .any(|outcome| matches!(outcome, Outcome::Failed(_)))
    }

    /// Prints the table of the cases in the given order, and then what went wrong.
    pub(crate) fn print(&self, order: &[&str], took: Duration) {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(std::iter::once("case").chain(LANGUAGES.iter().map(|language| language.name)));
        let mut order = order.to_vec();
        order.dedup();
        for case in order {
            let cell = |language: &'static str| {
                let outcome = self.cases.get(&(case.to_owned(), language)).or(self.languages.get(language));
                outcome.map_or("-", Outcome::cell)
            };
            table.add_row(std::iter::once(case).chain(LANGUAGES.iter().map(|language| cell(language.name))));
        }
        println!("{table}");
        for (language, outcome) in &self.languages {
            match outcome {
                Outcome::Skipped(told) => eprintln!("SKIPPED: all cases of {language}: {told}"),
                Outcome::Failed(told) => eprintln!("FAILED: all cases of {language}: {told}"),
                Outcome::Passed => {}
            }
        }
        for ((case, language), outcome) in &self.cases {
            if let Outcome::Failed(told) = outcome {
                eprintln!("\nFAILED: {language}: {case}\n{told}");
            }
        }
        println!("{} runs of a case in {:.1} s", self.cases.len(), took.as_secs_f64());
    }
}
