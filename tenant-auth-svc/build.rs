//! Stamps the commit, the branch, whether tracked files were changed, and the time into the binary.
//!
//! In a checkout git knows best. Where there is none, as in a container that was given the sources alone, or where it
//! does not know the branch, as in a build server that checks out a commit, `STAMP_COMMIT`, `STAMP_BRANCH` and
//! `STAMP_DIRTY` tell. `SOURCE_DATE_EPOCH` stands for the time, so that the same sources make the same binary.

use std::{env, path::Path, process::Command, time::SystemTime};

fn main() {
    // The stamp follows the checkout: a commit, a switch of branches, a staged file. (Without any such line cargo
    // would look at this package only, and miss a commit that touches another.)
    for file in ["HEAD", "index", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file]).filter(|p| Path::new(p).exists()) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    for folder in ["src", "build.rs", "Cargo.toml", "migrations", "../proto"] {
        println!("cargo:rerun-if-changed={folder}");
    }
    let commit = git(&["rev-parse", "HEAD"]);
    let dirty = match &commit {
        Some(_) => {
            git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| !changes.is_empty())
        }
        // Whoever names a commit and does not say that it is clean has not looked.
        None => told("STAMP_DIRTY").is_none_or(|told| told != "false") && told("STAMP_COMMIT").is_some(),
    };
    let commit = commit.or_else(|| told("STAMP_COMMIT")).unwrap_or_default();
    let branch =
        git(&["symbolic-ref", "--short", "-q", "HEAD"]).or_else(|| told("STAMP_BRANCH")).unwrap_or_default();
    let time = told("SOURCE_DATE_EPOCH").or_else(now).unwrap_or_default();
    println!("cargo:rustc-env=TENANT_AUTH_BUILD_COMMIT={commit}");
    println!("cargo:rustc-env=TENANT_AUTH_BUILD_BRANCH={branch}");
    println!("cargo:rustc-env=TENANT_AUTH_BUILD_DIRTY={dirty}");
    println!("cargo:rustc-env=TENANT_AUTH_BUILD_TIME={time}");
}

/// What git prints, if there is a git and a checkout. A source archive has neither, and builds all the same.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What whoever builds has told. Another word makes another build.
fn told(variable: &str) -> Option<String> {
    println!("cargo:rerun-if-env-changed={variable}");
    env::var(variable).ok().filter(|value| !value.is_empty())
}

/// Seconds since 1970.
fn now() -> Option<String> {
    let passed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(passed.as_secs().to_string())
}
