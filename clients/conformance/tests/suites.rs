//! Runs each client's own tests, formatter, linter and type checker with the client's own command.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::{
    io::Write as _,
    process::Stdio,
    sync::{Mutex, PoisonError},
};

use tenant_auth_conformance::language::{LANGUAGES, is_every_tool_required};

/// The tests run one at a time, because each uses the whole machine.
static EXCLUSIVE: Mutex<()> = Mutex::new(());

fn run_suite(name: &str) {
    let _turn = EXCLUSIVE.lock().unwrap_or_else(PoisonError::into_inner);
    let language = LANGUAGES.iter().find(|language| language.name == name).unwrap();
    if let Some(tool) = language.missing_tool() {
        assert!(!is_every_tool_required(), "{name}: `{tool}` does not work here");
        // Written directly to stderr, because the output of a passing test is captured.
        let _ = writeln!(std::io::stderr(), "SKIPPED: the tests of {name}: `{tool}` does not work here");
        return;
    }
    let mut suite = language.suite_command();
    suite.env("TENANT_AUTH_SVC_BIN", env!("CARGO_BIN_EXE_tenant-auth-svc-under-test"));
    let output = suite.stdin(Stdio::null()).output().unwrap();
    let output_text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output_text));
}

#[test]
fn typescript() {
    run_suite("typescript");
}

#[test]
fn go() {
    run_suite("go");
}

#[test]
fn python() {
    run_suite("python");
}

#[test]
fn every_client_language_has_a_suite() {
    let names = LANGUAGES.map(|language| language.name);
    // cargo itself runs the tests of the Rust client.
    assert_eq!(names, ["rust", "typescript", "go", "python"], "every other language has a test above");
}
