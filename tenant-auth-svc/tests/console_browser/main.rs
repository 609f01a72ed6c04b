//! Drives the console with a real Chromium: three replicas, a database that goes away and comes back, people with different
//! roles. The steps are in `browser/`; they ask for changes of the database by lines on their output.
//!
//! Chromium is that of `$CHROMIUM` or of the machine, or Debian's package, unpacked under `target/`. Where there is none, or no
//! Node.js, the test is SKIPPED; with `CI=true` it fails. Pictures of all pages are left in `target/console-pictures`.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use self::cluster::{Cluster, token_of};

/// Why the test cannot run here.
struct Missing(String);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn console_works_in_a_browser() {
    let target = Path::new(env!("CARGO_BIN_EXE_tenant-auth-svc")).parent().unwrap().parent().unwrap();
    let chromium = match prepare(target) {
        Ok(chromium) => chromium,
        Err(Missing(why)) => {
            assert!(!std::env::var("CI").is_ok_and(|value| value == "true"), "{why}");
            print_uncaptured(&format!("SKIPPED: the console in a browser: {why}\n"));
            return;
        }
    };
    let pictures = target.join("console-pictures");
    let _ = std::fs::remove_dir_all(&pictures);
    std::fs::create_dir_all(&pictures).unwrap();
    let mut cluster = Cluster::start().await;
    let mut browser = tokio::process::Command::new("node")
        .arg("console.mjs")
        .current_dir(browser_folder())
        .env("CHROMIUM", chromium)
        .env("CONSOLE", format!("http://{}", cluster.console()))
        .env("PICTURES", &pictures)
        .env("KEY", &cluster.key)
        .env("HOSTILE_TENANT", &cluster.hostile_tenant)
        .env("VIEWER", token_of("vera"))
        .env("OPERATOR", token_of("otto"))
        .env("MACHINE", token_of("machine"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut answers = browser.stdin.take().unwrap();
    let mut lines = BufReader::new(browser.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        match line.as_str() {
            "DATABASE DOWN" => cluster.database.stop().await,
            "DATABASE UP" => cluster.database.start_again().unwrap(),
            other => {
                print_uncaptured(&format!("{other}\n"));
                continue;
            }
        }
        answers.write_all(b"done\n").await.unwrap();
    }
    let status = browser.wait().await.unwrap();
    assert!(status.success(), "the steps in the browser failed: {status}");
}

fn browser_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/console_browser/browser")
}

/// Installs the packages of the steps, and returns the path of Chromium.
fn prepare(target: &Path) -> Result<String, Missing> {
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(browser_folder()).stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = command.output();
        let output = output.map_err(|error| Missing(format!("{program}: {error}")))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(Missing(format!("{program} {arguments:?}: {}", output.status))),
        }
    };
    run("npm", &["ci", "--prefer-offline", "--no-audit", "--no-fund", "--loglevel=error"])?;
    let folder = target.join("chromium");
    let chromium = run("./chromium", &[&folder.display().to_string()])?;
    match chromium.is_empty() {
        true => Err(Missing("there is no Chromium: install one, or set CHROMIUM to its path".to_owned())),
        false => Ok(chromium),
    }
}

/// Prints past the output capture of passing tests.
fn print_uncaptured(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
