//! The directions in which the modules may look, and what else the house rules say about files.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A module, what it may name of this crate, and which libraries it must not name.
const RULES: [(&str, &[&str], &[&str]); 10] = [
    (
        "domain",
        &["domain"],
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
    ("store", &["domain", "measure", "store"], &["tonic", "prost", "tower", "tenant_auth_proto"]),
    (
        "freshness",
        &["domain", "measure", "store"],
        &["tonic", "prost", "libsql", "moka", "reqwest", "tower", "tenant_auth_proto"],
    ),
    ("grpc", &["build", "domain", "grpc", "measure"], &["libsql", "moka", "reqwest", "tower"]),
    ("transport", &["measure", "transport"], &["prost", "libsql", "moka", "reqwest", "tenant_auth_proto"]),
    (
        "layer",
        &["domain", "grpc", "layer", "measure", "telemetry", "transport"],
        &["libsql", "moka", "reqwest", "tenant_auth_proto"],
    ),
    (
        "config",
        &["config", "domain", "store", "transport"],
        &["tonic", "prost", "libsql", "tower", "tenant_auth_proto"],
    ),
    // What the others know reaches it as facts, filled in by `app`.
    (
        "ops",
        &["domain", "ops"],
        &["tonic", "prost", "libsql", "moka", "reqwest", "tower", "tenant_auth_proto"],
    ),
    (
        "telemetry",
        &["config", "domain", "measure", "telemetry"],
        &["prost", "libsql", "moka", "tower", "tenant_auth_proto"],
    ),
    // Everything may measure with it, so that it knows nothing of anything.
    (
        "measure",
        &["measure"],
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

fn sources(root: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file without comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// What follows each `crate::` outside of nested braces: the modules that a file names.
fn named_modules(code: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for rest in code.split("crate::").skip(1) {
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut word = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => modules.push(std::mem::take(&mut word)),
                    _ if depth == 0 => word.push(c),
                    _ => {}
                }
            }
            modules.push(word);
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
fn modules_look_only_in_the_allowed_directions() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut checked = 0;
    for file in files {
        let module = file.strip_prefix(&src).unwrap().components().next().unwrap();
        let module = module.as_os_str().to_string_lossy().replace(".rs", "");
        let Some((_, allowed, forbidden)) = RULES.iter().find(|(name, ..)| *name == module) else { continue };
        checked += 1;
        let code = code(&file);
        for named in named_modules(&code) {
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
    assert!(checked > 40, "the rules must have met the files: {checked}");
}

#[test]
fn files_hold_one_idea_each() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "../proto", "../clients", "../deploy"] {
        sources(&root.join(folder), &mut files);
    }
    for file in files {
        let shown = file.display();
        assert!(!file.ends_with("mod.rs"), "{shown}: modules are files beside their folder");
        if file.components().any(|part| part.as_os_str() == "node_modules") {
            continue;
        }
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 350, "{shown} has {lines} lines: perhaps two ideas");
    }
}
