//! Stamps the commit, the branch and whether tracked files were changed into the binary.

use std::{path::Path, process::Command};

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
    let commit = git(&["rev-parse", "HEAD"]).unwrap_or_default();
    let branch = git(&["symbolic-ref", "--short", "-q", "HEAD"]).unwrap_or_default();
    let dirty =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| !changes.is_empty());
    println!("cargo:rustc-env=TENANT_AUTH_BUILD_COMMIT={commit}");
    println!("cargo:rustc-env=TENANT_AUTH_BUILD_BRANCH={branch}");
    println!("cargo:rustc-env=TENANT_AUTH_BUILD_DIRTY={dirty}");
}

/// What git prints, if there is a git and a checkout. A source archive has neither, and builds all the same.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
