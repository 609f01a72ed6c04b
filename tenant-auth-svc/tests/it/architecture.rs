//! Allowed dependencies between modules, and the other house rules about files.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Modules that are neither part of the contract nor of any store.
const PURE_MODULES: &[&str] =
    &["tonic", "prost", "libsql", "moka", "http", "reqwest", "tower", "hyper", "tenant_auth_proto"];

/// Per module: the modules of this crate that it may name, and the libraries that it must not name. `server`
/// and `cli` assemble the others.
const DEPENDENCY_RULES: [(&str, &[&str], &[&str]); 18] = [
    ("domain", &["domain"], PURE_MODULES),
    ("database", &["domain", "instruments", "database"], &["tonic", "prost", "tower", "tenant_auth_proto"]),
    (
        "cache",
        &["cache", "domain", "instruments"],
        &["tonic", "prost", "libsql", "http", "reqwest", "tower", "hyper", "tenant_auth_proto"],
    ),
    ("change_feed", &["change_feed", "domain", "instruments"], PURE_MODULES),
    ("usage_batcher", &["domain", "instruments", "usage_batcher"], PURE_MODULES),
    // Of the cache only its `HealthProbe`; see below.
    ("limit_leases", &["cache", "domain", "instruments", "limit_leases"], PURE_MODULES),
    ("grpc", &["build", "domain", "grpc", "instruments"], &["libsql", "moka", "reqwest", "tower"]),
    (
        "transport",
        &["instruments", "transport"],
        &["prost", "libsql", "moka", "reqwest", "tenant_auth_proto"],
    ),
    (
        "middleware",
        &["domain", "grpc", "instruments", "middleware", "telemetry", "transport"],
        &["libsql", "moka", "reqwest", "tenant_auth_proto"],
    ),
    (
        "fast_path",
        &["domain", "fast_path", "forward", "grpc", "middleware", "telemetry", "transport"],
        &["libsql", "moka", "reqwest"],
    ),
    (
        "forward",
        &["domain", "forward", "grpc", "instruments", "middleware", "telemetry", "transport"],
        &["libsql", "moka", "reqwest"],
    ),
    (
        "config",
        &["cache", "config", "database", "domain", "forward", "transport", "usage_batcher"],
        &["tonic", "prost", "libsql", "tower", "tenant_auth_proto"],
    ),
    // It calls the RPCs of its process, and gets the state of the replica as plain values, which `server` fills in.
    (
        "console",
        &["build", "config", "console", "domain", "middleware", "ops", "transport"],
        &["libsql", "moka", "reqwest"],
    ),
    // The state of the other modules reaches it as plain values, which `server` fills in.
    (
        "ops",
        &["domain", "ops", "transport"],
        &["tonic", "prost", "libsql", "moka", "reqwest", "tower", "tenant_auth_proto"],
    ),
    (
        "telemetry",
        &["config", "domain", "instruments", "telemetry"],
        &["prost", "libsql", "moka", "tower", "tenant_auth_proto"],
    ),
    (
        "jobs",
        &["config", "database", "domain", "jobs", "limit_leases", "service_types", "usage_batcher"],
        &["tonic", "prost", "moka", "tower", "tenant_auth_proto"],
    ),
    // Only aliases: what `server` assembles, and what `jobs` gets from it.
    (
        "service_types",
        &["cache", "change_feed", "database", "domain", "limit_leases", "usage_batcher"],
        &["tonic", "prost", "libsql", "moka", "http", "reqwest", "tower", "hyper", "tenant_auth_proto"],
    ),
    // Every module may record telemetry through it, so it must not depend on any of them.
    (
        "instruments",
        &["instruments"],
        &[
            "tonic",
            "prost",
            "libsql",
            "moka",
            "http",
            "reqwest",
            "tower",
            "tokio",
            "hyper",
            "tenant_auth_proto",
        ],
    ),
];

fn collect_sources(root: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Returns the code of a file without comments.
fn code_without_comments(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Returns what follows each occurrence of a prefix such as `crate::`, outside of nested braces: the modules and
/// items that a file names.
fn named_after(prefix: &str, code: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for rest in code.split(prefix).skip(1) {
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => modules.push(std::mem::take(&mut name)),
                    _ if depth == 0 => name.push(c),
                    _ => {}
                }
            }
            modules.push(name);
        } else {
            modules.push(rest.to_owned());
        }
    }
    let first = |path: String| {
        path.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
    };
    modules.into_iter().map(first).filter(|name| !name.is_empty()).collect()
}

#[test]
fn modules_depend_only_in_allowed_directions() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect_sources(&src, &mut files);
    let mut checked = 0;
    for file in files {
        let module = file.strip_prefix(&src).unwrap().components().next().unwrap();
        let module = module.as_os_str().to_string_lossy().replace(".rs", "");
        let Some((_, allowed, forbidden)) = DEPENDENCY_RULES.iter().find(|(name, ..)| *name == module) else {
            continue;
        };
        checked += 1;
        let code = code_without_comments(&file);
        for named in named_after("crate::", &code) {
            assert!(allowed.contains(&&*named), "{} must not name crate::{named}", file.display());
        }
        for library in *forbidden {
            let named = [format!("use {library}::"), format!(" {library}::"), format!("({library}::")];
            assert!(
                !named.iter().any(|name| code.contains(name)),
                "{} must not name {library}",
                file.display()
            );
        }
    }
    assert!(checked > 40, "the rules matched too few files: {checked}");
}

/// Leases are no cached records: they only have to know whether the database responds.
#[test]
fn limit_leases_name_only_the_health_probe_of_the_cache() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![src.join("limit_leases.rs")];
    collect_sources(&src.join("limit_leases"), &mut files);
    let code: String = files.iter().map(|file| code_without_comments(file)).collect();
    let code = code.replace("quick_cache::", "");
    assert_eq!(code.matches("cache::").count(), code.matches("cache::HealthProbe").count());
    assert!(code.contains("cache::HealthProbe"), "the rule matches nothing");
}

/// The domain may use only the runtime's channels that publish a value: it neither awaits nor spawns
/// anything.
#[test]
fn domain_spawns_and_awaits_nothing() {
    let mut files = Vec::new();
    collect_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/domain"), &mut files);
    for file in files {
        let code = code_without_comments(&file);
        let (code, _) = code.split_once("#[cfg(test)]").unwrap_or((&code, ""));
        if file.file_stem().is_some_and(|name| name == "tests") {
            continue;
        }
        for rest in code.split("tokio::").skip(1) {
            assert!(rest.starts_with("sync::watch"), "{} names more of tokio than its watch", file.display());
        }
    }
}

/// SQL statements appear only in the database module, where engineers look for them.
#[test]
fn sql_appears_only_in_database_module() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect_sources(&src, &mut files);
    let verbs = ["SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM ", "CREATE TABLE", "BEGIN IMMEDIATE"];
    let mut found = 0;
    for file in files {
        let relative_path = file.strip_prefix(&src).unwrap().to_string_lossy().replace('\\', "/");
        let code = code_without_comments(&file);
        let (code, _) = code.split_once("#[cfg(test)]").unwrap_or((&code, ""));
        if !verbs
            .iter()
            .any(|verb| code.contains(&format!("\"{verb}")) || code.contains(&format!("\\\n{verb}")))
        {
            continue;
        }
        found += 1;
        let is_there =
            ["database/sql", "database/migrate"].iter().any(|folder| relative_path.starts_with(folder));
        // The framing that turns statements into a transaction and marks the primary's answer.
        let is_framing = ["database/hrana/batch.rs", "database/libsql/run.rs"].contains(&&*relative_path);
        let is_a_test = relative_path.ends_with("tests.rs") || relative_path.ends_with("fuzz.rs");
        assert!(is_there || is_framing || is_a_test, "{relative_path} holds SQL: it belongs in database/sql");
    }
    assert!(found > 10, "the rule matched too few statements: {found}");
}

/// What several test files need is in the harness of their binary. A file without tests is a part of the file
/// that names it.
#[test]
fn test_file_names_no_other_test_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let binaries = ["tests/it", "../clients/cli/tests/end_to_end", "../clients/rust/tests/end_to_end"];
    for folder in binaries.into_iter().chain(["../clients/rust/tests/fake"]).map(|folder| root.join(folder)) {
        let mut files = Vec::new();
        collect_sources(&folder, &mut files);
        let holds_tests = |file: &Path| {
            let code = if file.exists() { code_without_comments(file) } else { String::new() };
            ["#[test]", "#[tokio::test"]
                .iter()
                .any(|mark| code.lines().any(|line| line.trim_start().starts_with(mark)))
        };
        for file in files {
            let shown = file.display();
            let code = code_without_comments(&file);
            let is_harness = file.starts_with(folder.join("harness")) || file == folder.join("harness.rs");
            assert!(!is_harness || !holds_tests(&file), "{shown}: the harness holds no tests");
            for name in named_after("crate::", &code) {
                let is_other = name != "harness" && folder.join(&name).with_extension("rs").exists();
                assert!(!is_other, "{shown} names crate::{name}: what both need belongs in the harness");
            }
            let parent = file.parent().unwrap();
            for name in named_after("super::", &code).into_iter().filter(|_| parent != folder) {
                let sibling = parent.join(&name).with_extension("rs");
                let named = if sibling.exists() { sibling } else { parent.with_extension("rs") };
                assert!(!holds_tests(&named), "{shown} names super::{name}: it belongs in the harness");
            }
            for child in code.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')) {
                let named = code.match_indices(&format!("{child}::")).any(|(at, _)| {
                    let before = code[..at].strip_suffix("self::").unwrap_or(&code[..at]);
                    !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
                });
                let path = file.with_extension("").join(child).with_extension("rs");
                assert!(!named || !holds_tests(&path), "{shown} names {child}: it belongs in the harness");
            }
        }
    }
}

#[test]
fn source_files_stay_within_size_limit() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "../proto", "../clients", "../deploy"] {
        collect_sources(&root.join(folder), &mut files);
    }
    for file in files {
        let shown = file.display();
        assert!(!file.ends_with("mod.rs"), "{shown}: modules are files beside their folder");
        if file.components().any(|part| part.as_os_str() == "node_modules") {
            continue;
        }
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 350, "{shown} has {lines} lines: split it");
    }
}
