//! Every case against every client: `cargo test -p tenant-auth-conformance --test conformance -- FILTER`.
//!
//! A case has a database, a service and a client of its own. The client is started as a program and reaches the service
//! through a proxy that counts calls.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the harness reports to people")]

mod administration;
mod case;
mod expect;
mod port;
mod proxy;
mod report;
mod runner;
mod service;
mod world;

use std::{
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use case::Case;
use futures::{StreamExt as _, stream};
use report::{Outcome, Report};
use tenant_auth_conformance::language::{LANGUAGES, Language, all_required};

/// Where runners are built.
const OUT: &str = env!("CARGO_TARGET_TMPDIR");
/// Cases at once: they wait for processes more than they compute.
const AT_ONCE: usize = 6;
/// No case waits longer than this for anything, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filters: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let cases = match case::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")) {
        Ok(cases) => cases,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    let wanted = |case: &Case, language: &Language| {
        let name = full_name(case, language);
        filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
    };
    let chosen: Vec<_> = cases
        .iter()
        .flat_map(|case| LANGUAGES.iter().map(move |language| (case, language)))
        .filter(|(case, language)| wanted(case, language))
        .collect();
    if arguments.iter().any(|argument| argument == "--list") {
        chosen.iter().for_each(|(case, language)| println!("{}: test", full_name(case, language)));
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(run(&chosen))
}

fn full_name(case: &Case, language: &Language) -> String {
    format!("{}: {}", language.name, case.name)
}

async fn run(chosen: &[(&Case, &'static Language)]) -> ExitCode {
    let began = Instant::now();
    let mut report = Report::default();
    let mut ready = Vec::new();
    for language in &LANGUAGES {
        if chosen.iter().any(|(_, chosen)| chosen.name == language.name) {
            match prepare(language) {
                Ok(()) => ready.push(language.name),
                Err(outcome) => report.language(language.name, outcome),
            }
        }
    }
    let runs =
        chosen.iter().filter(|(_, language)| ready.contains(&language.name)).map(|(case, language)| {
            let (case, language) = (Arc::new((*case).clone()), *language);
            async move {
                let name = case.name.clone();
                // A task of its own: what panics fails alone.
                let played =
                    tokio::spawn(async move { world::play(&case, language, Path::new(OUT)).await }).await;
                let outcome = match played {
                    Ok(Ok(())) => Outcome::Passed,
                    Ok(Err(error)) => Outcome::Failed(format!("{error:#}")),
                    Err(error) => Outcome::Failed(error.to_string()),
                };
                (name, language.name, outcome)
            }
        });
    let mut runs = stream::iter(runs).buffer_unordered(AT_ONCE);
    while let Some((case, language, outcome)) = runs.next().await {
        report.case(&case, language, outcome);
    }
    let order: Vec<_> = chosen.iter().map(|(case, _)| case.name.as_str()).collect();
    report.print(&order, began.elapsed());
    if report.failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn prepare(language: &Language) -> Result<(), Outcome> {
    if let Some(tool) = language.missing_tool() {
        let told = format!("`{tool}` does not work here");
        return Err(if all_required() { Outcome::Failed(told) } else { Outcome::Skipped(told) });
    }
    language.prepare(Path::new(OUT)).map_err(|error| Outcome::Failed(error.to_string()))
}
