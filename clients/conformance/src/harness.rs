//! A test harness for tests whose names and number are known only at run time: one per case and language.
//!
//! `-- FILTER…` selects those whose full name, such as `go: watch: …`, contains one of the filters; `--
//! --list` only lists them.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "output for the terminal")]

use std::{path::Path, process::ExitCode, time::Instant};

use futures::{StreamExt as _, future::LocalBoxFuture, stream};
use tokio::task::{LocalSet, spawn_blocking, spawn_local};

use crate::{
    language::{LANGUAGES, Language, is_every_tool_required},
    report::{Outcome, Report},
};

/// One case with one language.
pub struct Trial {
    name: String,
    language: &'static Language,
    is_exclusive: bool,
    play: Box<dyn FnOnce() -> LocalBoxFuture<'static, anyhow::Result<Outcome>>>,
}

impl Trial {
    /// Creates a trial that passes unless it fails, panics or returns another outcome.
    pub fn new<F: Future<Output = anyhow::Result<Outcome>> + 'static>(
        name: &str,
        language: &'static Language,
        play: impl FnOnce() -> F + 'static,
    ) -> Self {
        Self { name: name.to_owned(), language, is_exclusive: false, play: Box::new(|| Box::pin(play())) }
    }

    /// Makes the trial run alone, because concurrent trials would affect what it measures.
    #[must_use]
    pub fn exclusive(mut self) -> Self {
        self.is_exclusive = true;
        self
    }

    fn full_name(&self) -> String {
        format!("{}: {}", self.language.name, self.name)
    }

    async fn run(self) -> (String, &'static str, Outcome) {
        // In its own task, so that a panic fails only this trial.
        let outcome = match spawn_local((self.play)()).await {
            Ok(Ok(Outcome::Skipped(detail))) => skipped_or_failed(detail),
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Outcome::Failed(format!("{error:#}")),
            Err(error) => Outcome::Failed(error.to_string()),
        };
        (self.name, self.language.name, outcome)
    }
}

/// Runs the trials that the program's arguments select, at most `at_once` concurrently, with runners that are
/// built in `out`. Prints a table.
pub fn run(trials: Vec<Trial>, at_once: usize, out: &Path) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filters: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |trial: &Trial| {
        let name = trial.full_name();
        filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
    };
    let chosen: Vec<_> = trials.into_iter().filter(wanted).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        chosen.iter().for_each(|trial| println!("{}: test", trial.full_name()));
        return ExitCode::SUCCESS;
    }
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(LocalSet::new().run_until(run_all(chosen, at_once, out))),
        Err(error) => {
            eprintln!("cannot start a runtime: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run_all(chosen: Vec<Trial>, at_once: usize, out: &Path) -> ExitCode {
    let began = Instant::now();
    let mut report = Report::default();
    let mut ready = Vec::new();
    let needed = LANGUAGES.iter().filter(|language| chosen.iter().any(|t| t.language.name == language.name));
    let preparing = needed.map(|language| {
        let out = out.to_owned();
        async move { (language.name, spawn_blocking(move || prepare(language, &out)).await) }
    });
    for (language, prepared) in futures::future::join_all(preparing).await {
        match prepared {
            Ok(Ok(())) => ready.push(language),
            Ok(Err(outcome)) => report.add_language(language, outcome),
            Err(error) => report.add_language(language, Outcome::Failed(error.to_string())),
        }
    }
    let prepared = began.elapsed();
    let order: Vec<_> = chosen.iter().map(|trial| trial.name.clone()).collect();
    let (alone, beside): (Vec<_>, Vec<_>) = chosen
        .into_iter()
        .filter(|trial| ready.contains(&trial.language.name))
        .partition(|trial| trial.is_exclusive);
    let mut runs = stream::iter(alone)
        .then(Trial::run)
        .chain(stream::iter(beside).map(Trial::run).buffer_unordered(at_once))
        .boxed_local();
    while let Some((name, language, outcome)) = runs.next().await {
        report.add_case(&name, language, outcome);
    }
    report.print(&order, prepared, began.elapsed().saturating_sub(prepared));
    if report.has_failures() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn prepare(language: &Language, out: &Path) -> Result<(), Outcome> {
    if let Some(tool) = language.missing_tool() {
        return Err(skipped_or_failed(format!("`{tool}` does not work here")));
    }
    language.prepare(out).map_err(|error| Outcome::Failed(error.to_string()))
}

/// In CI, a skipped trial is a failure.
fn skipped_or_failed(detail: String) -> Outcome {
    if is_every_tool_required() { Outcome::Failed(detail) } else { Outcome::Skipped(detail) }
}
