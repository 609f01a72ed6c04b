//! Checks that the table in this crate's README names existing tests, for every language and every section.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use tenant_auth_conformance::language::LANGUAGES;

const FEATURE_GROUPS: [&str; 17] = [
    "An answer and no answer",
    "Keys",
    "Sessions",
    "Usage",
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
/// The cell for a section that a language does not have.
const NO_LANGUAGE: &str = "none";

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
    let readme = fs::read_to_string(crate_folder().join("README.md")).unwrap();
    let mut lines = readme
        .lines()
        .skip_while(|line| !line.contains(EVERY_LANGUAGE))
        .take_while(|line| line.starts_with('|'));
    let columns = cells(lines.next().unwrap());
    let rows: Vec<_> = lines.skip(1).map(cells).collect();
    let languages: BTreeSet<_> = columns.iter().skip(2).copied().collect();
    assert_eq!(languages, LANGUAGES.iter().map(|language| language.name).collect());
    assert_eq!(rows.iter().map(|row| row[0]).collect::<Vec<_>>(), FEATURE_GROUPS);

    let shared = shared_test_names();
    let mut missing = Vec::new();
    for row in &rows {
        for name in tests_named_in(row[1]) {
            let exists =
                shared.iter().any(|test| test == name || name.ends_with(':') && test.starts_with(name));
            if !exists {
                missing.push(format!("{}: no case or scene is called {name}", row[0]));
            }
        }
        for (language, cell) in columns.iter().zip(row).skip(2) {
            let tests = tests_named_in(cell);
            if tests.is_empty() && *cell != NO_LANGUAGE && tests_named_in(row[1]).is_empty() {
                missing.push(format!("{}: nothing holds it for {language}", row[0]));
            }
            for test in tests {
                let (file, name) = test.split_once(": ").unwrap_or_else(|| panic!("{test}: FILE: NAME"));
                let text = fs::read_to_string(test_folder_of(language).join(file));
                if !text.is_ok_and(|text| text.contains(name)) {
                    missing.push(format!("{}: {language} has no {test}", row[0]));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
