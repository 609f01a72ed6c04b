//! Checks that the tables of tests, in this crate's README and in that of all clients, name existing tests.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use tenant_auth_conformance::language::LANGUAGES;

const FEATURE_GROUPS: [&str; 18] = [
    "An answer and no answer",
    "Keys",
    "Sessions",
    "Usage",
    "Limits",
    "Near-cache",
    "Watch",
    "Retries and deadlines",
    "Connections",
    "TLS",
    "Caller token",
    "Networks",
    "HTTP adapters",
    "gRPC adapters",
    "MCP",
    "Options",
    "Examples",
    "Closing",
];
const EVERY_LANGUAGE: &str = "every language";
/// The beginning of a cell for something that a language does not have.
const NO_LANGUAGE: &str = "none";
/// The features of the adapters for MCP servers; each is in the table once for each kind of revisions.
const MCP_FEATURES: [&str; 14] = [
    "Keys from Authorization and X-API-Key; two different ones are 400",
    "A CORS preflight passes untouched",
    "Sessions belong to the tenant; a foreign one is 404",
    "Handles belong to the tenant, and are never a session",
    "Rights by tool, resource, prompt and method",
    "A difference of headers and body runs no tool",
    "Lists contain only what the key may use",
    "Usage of each admitted call",
    "Challenges, and no OAuth unless configured",
    "An outage is 503 and never 500",
    "Streams end with their key, on every replica",
    "While `Watch` is interrupted, streams are validated again",
    "The example, with the official SDK's client",
    "The official conformance suite, with and without the adapter",
];
const MCP_REVISIONS: [&str; 2] = ["handshake", "stateless"];

fn crate_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the cells of a table row.
fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

/// Returns the tests that a cell names.
fn tests_named_in(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn test_folder_of(language: &str) -> PathBuf {
    crate_folder().join("..").join(language).join(match language {
        "rust" => "tests/end_to_end",
        "python" => "tests",
        "typescript" => "test",
        _ => "",
    })
}

/// Whether a test of a language, written as `FILE: NAME`, exists.
fn exists(language: &str, test: &str) -> bool {
    let (file, name) = test.split_once(": ").unwrap_or_else(|| panic!("{test}: FILE: NAME"));
    fs::read_to_string(test_folder_of(language).join(file)).is_ok_and(|text| text.contains(name))
}

/// Returns the rows of the table whose head contains a text, the head first and without the line below it.
fn table_with(readme: &Path, head: &str) -> Vec<Vec<String>> {
    let readme = fs::read_to_string(readme).unwrap();
    let lines =
        readme.lines().skip_while(|line| !line.contains(head)).take_while(|line| line.starts_with('|'));
    let rows = lines.enumerate().filter(|(number, _)| *number != 1);
    rows.map(|(_, line)| cells(line).into_iter().map(str::to_owned).collect()).collect()
}

/// Returns the names of all cases and scenes.
fn shared_test_names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in fs::read_dir(crate_folder().join("cases")).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let cases: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        names.extend(cases.iter().map(|case| case["name"].as_str().unwrap().to_owned()));
    }
    let scenes = fs::read_to_string(crate_folder().join("tests/walk/main.rs")).unwrap();
    names.extend(scenes.split('"').filter(|text| text.starts_with("walk: ")).map(str::to_owned));
    names
}

#[test]
fn every_test_that_the_table_names_exists() {
    let table = table_with(&crate_folder().join("README.md"), EVERY_LANGUAGE);
    let (columns, rows) = table.split_first().unwrap();
    let languages: BTreeSet<_> = columns.iter().skip(2).map(String::as_str).collect();
    assert_eq!(languages, LANGUAGES.iter().map(|language| language.name).collect());
    assert_eq!(rows.iter().map(|row| &*row[0]).collect::<Vec<_>>(), FEATURE_GROUPS);

    let shared = shared_test_names();
    let mut missing = Vec::new();
    for row in rows {
        for name in tests_named_in(&row[1]) {
            let exists =
                shared.iter().any(|test| test == name || name.ends_with(':') && test.starts_with(name));
            if !exists {
                missing.push(format!("{}: no case or scene is called {name}", row[0]));
            }
        }
        for (language, cell) in columns.iter().zip(row).skip(2) {
            let tests = tests_named_in(cell);
            if tests.is_empty() && *cell != NO_LANGUAGE && tests_named_in(&row[1]).is_empty() {
                missing.push(format!("{}: nothing holds it for {language}", row[0]));
            }
            let absent = tests.into_iter().filter(|test| !exists(language, test));
            missing.extend(absent.map(|test| format!("{}: {language} has no {test}", row[0])));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_feature_of_mcp_is_tested_in_every_language_and_revision() {
    let table = table_with(&crate_folder().join("../README.md"), "| feature | revision |");
    let (columns, rows) = table.split_first().unwrap();
    let found: Vec<_> = rows.iter().map(|row| (&*row[0], &*row[1])).collect();
    let expected = MCP_FEATURES.iter().flat_map(|feature| MCP_REVISIONS.map(|revision| (*feature, revision)));
    assert_eq!(found, expected.collect::<Vec<_>>());
    let languages: BTreeSet<_> = columns.iter().skip(2).map(String::as_str).collect();
    assert_eq!(languages, LANGUAGES.iter().map(|language| language.name).collect());
    let mut missing = Vec::new();
    for row in rows {
        for (language, cell) in columns.iter().zip(row).skip(2) {
            let tests = tests_named_in(cell);
            if tests.is_empty() && !cell.starts_with(NO_LANGUAGE) {
                missing.push(format!("{} ({}): nothing for {language}", row[0], row[1]));
            }
            let absent = tests.into_iter().filter(|test| !exists(language, test));
            missing.extend(absent.map(|test| format!("{} ({}): {language} has no {test}", row[0], row[1])));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
