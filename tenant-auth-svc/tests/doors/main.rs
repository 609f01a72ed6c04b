//! Runs the real proxies in front of the service, with the configurations of `deploy/proxies`.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

/// The script installs the proxies itself. What it cannot get, it reports as SKIPPED, and with `CI=true` it fails.
#[test]
fn every_proxy_keeps_denied_and_undecided_apart() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_tenant-auth-svc")).parent().unwrap();
    let output = Command::new(repository.join("deploy/proxies/check"))
        .env("DEPLOY_PROGRAMS", programs)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    // Written directly, because the output of a passing test is captured: the table is a result.
    let _ = std::io::stderr().write_all(&text);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
}
