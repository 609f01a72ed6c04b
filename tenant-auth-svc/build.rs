//! Stamps the commit, the branch, whether tracked files were modified, and the time into the binary, and lists the
//! migrations.
//!
//! In a checkout, git is the source. `STAMP_COMMIT`, `STAMP_BRANCH` and `STAMP_DIRTY` replace it outside a checkout,
//! as in a container with the sources only, or where git does not know the branch, as on a build server that checks
//! out a commit. `SOURCE_DATE_EPOCH` replaces the time, so that the same sources produce the same binary.

use std::{env, error::Error, fmt::Write as _, fs, path::Path, process::Command, time::SystemTime};

fn main() -> Result<(), Box<dyn Error>> {
    // The stamp depends on the checkout: a commit, a switch of branches, a staged file. (Without any such line cargo
    // would watch only this package, and miss a commit that changes another one.)
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
        // A build that names a commit without STAMP_DIRTY=false counts as dirty: it was not checked.
        None => {
            stamp_variable("STAMP_DIRTY").is_none_or(|value| value != "false")
                && stamp_variable("STAMP_COMMIT").is_some()
        }
    };
    let commit = commit.or_else(|| stamp_variable("STAMP_COMMIT")).unwrap_or_default();
    let branch = git(&["symbolic-ref", "--short", "-q", "HEAD"])
        .or_else(|| stamp_variable("STAMP_BRANCH"))
        .unwrap_or_default();
    let time = stamp_variable("SOURCE_DATE_EPOCH").or_else(now).unwrap_or_default();
    println!("cargo:rustc-env=TENANT_AUTH_BUILD_COMMIT={commit}");
    println!("cargo:rustc-env=TENANT_AUTH_BUILD_BRANCH={branch}");
    println!("cargo:rustc-env=TENANT_AUTH_BUILD_DIRTY={dirty}");
    println!("cargo:rustc-env=TENANT_AUTH_BUILD_TIME={time}");
    list_migrations()
}

/// Writes the list of `migrations/NNNN_name.sql`, by number, as an expression for `src/database/migrate.rs`.
fn list_migrations() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(&env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo sets it")?).join("migrations");
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // The folder beside them has the schema of a new database.
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    let mut list = "&[\n".to_owned();
    for (index, path) in files.iter().enumerate() {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let (number, name) = stem.split_once('_').unwrap_or_default();
        let version = index + 1;
        if number != format!("{version:04}") {
            return Err(format!("{}: migrations are numbered without gaps", path.display()).into());
        }
        let name = name.replace('_', " ");
        writeln!(list, "Migration {{ version: {version}, name: {name:?}, sql: include_str!({path:?}) }},")?;
    }
    list += "]";
    let out = env::var_os("OUT_DIR").ok_or("cargo sets it")?;
    fs::write(Path::new(&out).join("migrations.rs"), list)?;
    Ok(())
}

/// Output of git, or `None` without git or a checkout: a source archive has neither, and still builds.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Reads a variable of the build environment. A changed value causes a new build.
fn stamp_variable(variable: &str) -> Option<String> {
    println!("cargo:rerun-if-env-changed={variable}");
    env::var(variable).ok().filter(|value| !value.is_empty())
}

/// Seconds since 1970.
fn now() -> Option<String> {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(elapsed.as_secs().to_string())
}
