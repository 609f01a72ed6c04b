//! The official conformance suite of MCP, against the same server with and without the layer.
#![allow(clippy::print_stdout)]

use std::{collections::BTreeMap, env, fs, io::Write as _, path::Path, process::Stdio};

use axum::{Router, extract::Request};
use http::{HeaderValue, header::AUTHORIZATION};
use serde_json::Value;
use tenant_auth_client::McpRule;
use tokio::{net::TcpListener, process::Command, time::timeout};
use tower::util::MapRequestLayer;

use super::{Shop, app, fixtures::Fixtures};
use crate::harness::WAIT_TIMEOUT;

/// The suite needs a Node.js that is newer than that of some distributions.
const NODE: &str = "node@22.23.3";
const SUITE: &str = "@modelcontextprotocol/conformance@0.2.0-alpha.12";

/// Scenarios that the SDK itself fails, without the layer, and why.
const EXPECTED_FAILURES: &[(&str, &str)] = &[
    ("server-tasks-capability-negotiation", NO_TASKS),
    ("server-tasks-dispatch-and-envelope", NO_TASKS),
    ("server-tasks-lifecycle", NO_TASKS),
    ("server-tasks-mrtr-composition", NO_TASKS),
    ("server-tasks-mrtr-input", NO_TASKS),
    ("server-tasks-request-headers", NO_TASKS),
    ("server-tasks-request-state-removal", NO_TASKS),
    ("server-tasks-required-task-error", NO_TASKS),
    ("server-tasks-wire-fields", NO_TASKS),
];
const NO_TASKS: &str = "not scored: the server does not have the optional extension for tasks";

/// The checks of each scenario that have failed, with their messages.
type Failures = BTreeMap<String, BTreeMap<String, String>>;

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, router).into_future());
    url
}

/// Runs the suite and returns the scenarios, each with the checks that have failed.
async fn run(requirements: &str, url: &str) -> Failures {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("npx")
        .args(["--yes", "-p", NODE, "-p", SUITE, "conformance", "server", "--url", url])
        .args(["--requirements", requirements, "-o"])
        .arg(folder.path())
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(WAIT_TIMEOUT * 5, output).await.unwrap().unwrap();
    let mut failures = Failures::new();
    collect(folder.path(), &mut failures);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        failures.len() >= 30,
        "{} scenarios: {text}{}",
        failures.len(),
        String::from_utf8_lossy(&output.stderr)
    );
    failures
}

/// Reads the results, a folder per scenario.
fn collect(folder: &Path, failures: &mut Failures) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let Ok(checks) = fs::read_to_string(path.join("checks.json")) else { continue };
        let checks: Vec<Value> = serde_json::from_str(&checks).unwrap();
        let failed = checks.iter().filter(|check| check["status"] == "FAILURE");
        let failed =
            failed.map(|check| (check["id"].to_string(), check["errorMessage"].to_string())).collect();
        failures.insert(scenario_of(&path), failed);
    }
}

/// Returns the name of a scenario: that of its folder, without the time.
fn scenario_of(path: &Path) -> String {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    name.split("-20").next().unwrap_or_default().to_owned()
}

/// Returns whether npm is there. Without it, the test is skipped, but not in continuous integration.
async fn has_npx() -> bool {
    let found =
        Command::new("npx").arg("--version").output().await.is_ok_and(|output| output.status.success());
    assert!(found || env::var("CI").as_deref() != Ok("true"), "npx is missing");
    if !found {
        // Not captured, so that it is seen.
        _ = writeln!(
            std::io::stderr(),
            "SKIPPED: npx is missing, so the conformance suite of MCP did not run"
        );
    }
    found
}

async fn compare(requirements: &str) {
    if !has_npx().await {
        return;
    }
    let shop = Shop::open().await;
    let any = || McpRule::new().scope("orders:read");
    let policy = app::policy()
        .unwrap()
        // The suite expects answers of the server about tools that do not exist.
        .tool("*", any())
        .resource("test://*", any())
        .prompt("*", any())
        .method("logging/setLevel", any());
    let fixtures = Fixtures::new();
    let layer = app::layer(shop.service.client.clone(), shop.recorder.clone(), policy).unwrap();
    // The suite sends no key.
    let key = HeaderValue::from_str(&format!("Bearer {}", shop.reader.expose())).unwrap();
    let with_key = MapRequestLayer::new(move |mut request: Request| {
        request.headers_mut().insert(AUTHORIZATION, key.clone());
        request
    });
    let behind = {
        let fixtures = fixtures.clone();
        serve(app::serve(move || fixtures.clone()).layer(layer).layer(with_key)).await
    };
    let bare = serve(app::serve(move || fixtures.clone())).await;
    let (behind, bare) = (run(requirements, &behind).await, run(requirements, &bare).await);

    let checks = |failures: &Failures| -> Vec<(String, Vec<String>)> {
        failures.iter().map(|(name, failed)| (name.clone(), failed.keys().cloned().collect())).collect()
    };
    assert_eq!(checks(&behind), checks(&bare), "behind: {behind:#?}\nbare: {bare:#?}");
    let failing: Vec<_> =
        bare.iter().filter(|(_, failed)| !failed.is_empty()).map(|(name, _)| name).collect();
    println!("{requirements}: {} scenarios, {} fail without the layer", bare.len(), failing.len());
    let expected = EXPECTED_FAILURES.iter().filter(|(name, _)| bare.contains_key(*name));
    let expected: Vec<_> =
        expected.inspect(|(name, reason)| println!("{name}: {reason}")).map(|(name, _)| *name).collect();
    assert_eq!(failing, expected, "{bare:#?}");
}

#[tokio::test]
async fn layer_fails_no_scenario_of_2025_11_25_that_the_sdk_passes() {
    compare("2025-11-25").await;
}

#[tokio::test]
async fn layer_fails_no_scenario_of_2026_07_28_that_the_sdk_passes() {
    compare("2026-07-28").await;
}
