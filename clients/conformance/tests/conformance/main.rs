//! Runs every case with every client: `cargo test -p tenant-auth-conformance --test conformance -- FILTER`.
//!
//! Each case has its own database, service and client. The client is a separate program and reaches the
//! service through a proxy that counts calls.
#![allow(clippy::print_stderr, reason = "output for the terminal")]

mod case;
mod case_run;
mod expect;
mod proxy;

use std::{path::Path, process::ExitCode, sync::Arc};

use tenant_auth_conformance::{
    harness::{self, Trial},
    language::LANGUAGES,
    report::Outcome,
};

/// The folder in which runners are built.
const RUNNER_BUILD_FOLDER: &str = env!("CARGO_TARGET_TMPDIR");
/// Concurrent cases: they mostly wait for processes.
const MAX_CONCURRENT_CASES: usize = 6;

fn main() -> ExitCode {
    let cases = match case::read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")) {
        Ok(cases) => cases,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    let mut trials = Vec::new();
    for case in cases.into_iter().map(Arc::new) {
        for language in &LANGUAGES {
            let played = Arc::clone(&case);
            trials.push(Trial::new(&case.name, language, move || async move {
                case_run::play(&played, language, Path::new(RUNNER_BUILD_FOLDER)).await.map(|()| Outcome::OK)
            }));
        }
    }
    harness::run(trials, MAX_CONCURRENT_CASES, Path::new(RUNNER_BUILD_FOLDER))
}
