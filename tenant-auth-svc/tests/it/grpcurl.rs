//! Tests reflection with grpcurl: a current version, and one from before reflection version 1.

use std::{io::Write as _, path::PathBuf, process::Command};

use crate::harness::{TestDatabase, TestService};

const CURRENT_VERSION: &str = "v1.9.3";
/// A version that supports reflection v1alpha only.
const OLD_VERSION: &str = "v1.8.1";

/// Builds the tool with the Go toolchain; `None` without a toolchain, which is a failure if `CI` is set.
fn grpcurl(version: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("grpcurl-{version}"));
    let tool = folder.join("grpcurl");
    if tool.exists() {
        return Some(tool);
    }
    let package = format!("github.com/fullstorydev/grpcurl/cmd/grpcurl@{version}");
    match Command::new("go").args(["install", &package]).env("GOBIN", &folder).output() {
        Ok(output) if output.status.success() => Some(tool),
        other => {
            let reason = match other {
                Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
                Err(error) => error.to_string(),
            };
            assert!(std::env::var_os("CI").is_none(), "no grpcurl {version}: {reason}");
            // Written directly to stderr, because the output of a passing test is captured.
            let _ = writeln!(std::io::stderr(), "SKIPPED: no grpcurl {version} could be built: {reason}");
            None
        }
    }
}

async fn run(tool: &PathBuf, args: &[&str]) -> (bool, String) {
    let output = tokio::process::Command::new(tool).args(args).output().await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test]
async fn grpcurl_lists_services_and_calls_rpcs() {
    let database = TestDatabase::embedded();
    let service = TestService::start(&database).await;
    let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &["a"]).await;
    let address = service.running.address().to_string();
    for version in [CURRENT_VERSION, OLD_VERSION] {
        let build = tokio::task::spawn_blocking(move || grpcurl(version));
        let Some(tool) = build.await.unwrap() else { continue };
        let (done, listed) = run(&tool, &["-plaintext", &address, "list"]).await;
        assert!(done && listed.contains("tenantauth.v1.ValidationService"), "{version}: {listed}");
        let (done, described) =
            run(&tool, &["-plaintext", &address, "describe", "tenantauth.v1.Verdict"]).await;
        assert!(done && described.contains("VERDICT_VALID"), "{version}: {described}");

        let data = format!("{{\"key\":\"{key}\",\"required_scopes\":[\"a\"]}}");
        let method = "tenantauth.v1.ValidationService/ValidateKey";
        let (done, answer) = run(&tool, &["-plaintext", "-d", &data, &address, method]).await;
        assert!(done && answer.contains("\"verdict\": \"VERDICT_VALID\""), "{version}: {answer}");
        let (done, refused) = run(&tool, &["-plaintext", "-d", "{}", &address, method]).await;
        assert!(!done && refused.contains("key: must not be empty"), "{version}: {refused}");
    }
}
