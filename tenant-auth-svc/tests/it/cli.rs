//! The command-line program: its commands and its error messages.

mod arguments;
mod connect;

use std::{process::Stdio, time::Duration};

use tempfile::TempDir;
use tenant_auth_proto::v1::{self, validation_service_client::ValidationServiceClient};
use tenant_auth_testkit::HranaServer;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
};
use tonic::transport::Channel;

use crate::harness::{
    TOKEN, http_exchange, http_request, http_until,
    program::{addresses, program, run, signal, text},
    unknown_key,
};

/// Starts `dev` on a free port. Returns the child, the rest of its output, and the endpoint and key that it
/// printed.
async fn start_dev(folder: &TempDir) -> (Child, Lines<BufReader<ChildStdout>>, String, String) {
    let mut child = program()
        .args(["dev", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path())
        .env("TENANT_AUTH_FORWARD_LISTEN", "127.0.0.1:0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut endpoint, mut key) = (String::new(), String::new());
    while key.is_empty() {
        let line = lines.next_line().await.unwrap().expect("dev must print what to try");
        let mut words = line.split_whitespace();
        match words.next() {
            Some("endpoint") => endpoint = words.next().unwrap().to_owned(),
            Some("key") => key = words.next().unwrap().to_owned(),
            _ => {}
        }
    }
    (child, lines, endpoint, key)
}

async fn validate(endpoint: &str, key: &str) -> v1::ValidateKeyResponse {
    let channel = Channel::from_shared(format!("http://{endpoint}")).unwrap().connect_lazy();
    let request = v1::ValidateKeyRequest {
        key: key.to_owned(),
        required_scopes: vec!["demo:read".to_owned()],
        ..Default::default()
    };
    ValidationServiceClient::new(channel).validate_key(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn dev_command_serves_and_keeps_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, mut lines, endpoint, key) = start_dev(&folder).await;
    assert_eq!(validate(&endpoint, &key).await.verdict(), v1::Verdict::Valid);
    let mut printed = String::new();
    while !printed.contains("Ctrl-C") {
        printed.push_str(&lines.next_line().await.unwrap().unwrap());
        printed.push('\n');
    }
    let call = format!(
        "grpcurl -plaintext -d '{{\"key\":\"{key}\",\"required_scopes\":[\"demo:read\"]}}' {endpoint}"
    );
    assert!(printed.contains(&call), "{printed}");
    let shown = |path| printed.split("http://").find_map(|rest| rest.split_once(path)).unwrap().0;
    let ready = http_request(shown("/readyz?verbose").parse().unwrap(), "GET /readyz").await.unwrap();
    assert_eq!(ready.body, "ready");
    // The variables of the front doors apply to `dev` too.
    let credential = format!("Bearer {key}");
    let (address, headers) = (shown("/forward-auth").parse().unwrap(), [("authorization", &*credential)]);
    let admitted = http_exchange(address, "GET /forward-auth", &headers, "").await.unwrap();
    assert_eq!(admitted.status, 200);
    assert!(
        printed.contains(&format!("--endpoint http://{endpoint} validate --scope demo:read")),
        "{printed}"
    );

    // A second instance on the same data is rejected at once, with an error that names the first.
    let second =
        run(program().args(["dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path())).await;
    assert_eq!(second.status.code(), Some(1));
    let error_text = text(&second.stderr);
    assert!(error_text.contains(&format!("in use by process {}", child.id().unwrap())), "{error_text}");
    assert!(
        error_text.contains(&format!("--data-dir {} is in use", folder.path().display())),
        "{error_text}"
    );
    assert!(!error_text.contains("TENANT_AUTH_"), "dev reads no variables: {error_text}");
    // The same applies to an instance on the same port.
    let other_folder = tempfile::tempdir().unwrap();
    let third =
        run(program().args(["dev", "--listen", &endpoint, "--data-dir"]).arg(other_folder.path())).await;
    assert!(text(&third.stderr).contains("cannot listen on"), "{}", text(&third.stderr));

    signal(&child, "TERM");
    assert!(child.wait().await.unwrap().success(), "an orderly shutdown");
    let (mut child, _, endpoint, again) = start_dev(&folder).await;
    assert_eq!(again, key, "the key is created once");
    assert_eq!(validate(&endpoint, &key).await.verdict(), v1::Verdict::Valid);
    // A killed process leaves nothing behind that would prevent the next start.
    child.kill().await.unwrap();
    let (_child, _, endpoint, again) = start_dev(&folder).await;
    assert_eq!(validate(&endpoint, &again).await.verdict(), v1::Verdict::Valid);
}

#[tokio::test]
async fn serve_refuses_invalid_configuration_and_names_each_value() {
    let output = run(program().arg("serve")).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("TENANT_AUTH_DATABASE_URL: must be set"),
        "{}",
        text(&output.stderr)
    );

    let output = run(program()
        .arg("serve")
        .env("TENANT_AUTH_DATABASE_URL", "libsql://db.example")
        .env("TENANT_AUTH_LISTEN", "0.0.0.0:50051")
        .env("TENANT_AUTH_KEY_PREFIX", "Bad Prefix")
        .env("TENANT_AUTH_CACHE_FRESH", "5")
        .env("TENANT_AUTH_DATABASE_MAX_IN_FLIGHT", "1")
        .env("TENANT_AUTH_MAX_REQUESTS", "0")
        .env("TENANT_AUTH_PEPPER_FILE", "/nowhere/pepper")
        .env("TENANT_AUTH_DATABSE_TIMEOUT", "1s")
        .env("TENANT_AUTH_OPS_LISTEN", "50052")
        .env("TENANT_AUTH_DRAIN_DELAY", "1h")
        .env("TENANT_AUTH_LOG_FORMAT", "xml")
        // Kubernetes sets this variable for a Service of that name; it is not a setting of the program.
        .env("TENANT_AUTH_PORT", "tcp://10.0.0.1:50051")
        .env("TENANT_AUTH_SERVICE_HOST", "10.0.0.1"))
    .await;
    assert_eq!(output.status.code(), Some(2));
    let error_text = text(&output.stderr);
    for (variable, problem) in [
        ("TENANT_AUTH_DATABASE_TOKEN_FILE", "must be set"),
        ("TENANT_AUTH_LISTEN", "beyond loopback"),
        ("TENANT_AUTH_KEY_PREFIX", "must be 1 to 18 characters"),
        ("TENANT_AUTH_CACHE_FRESH", "invalid duration"),
        ("TENANT_AUTH_DATABASE_MAX_IN_FLIGHT", "must be an integer from 8"),
        ("TENANT_AUTH_MAX_REQUESTS", "must be an integer from 1 to 1000000"),
        ("TENANT_AUTH_PEPPER_FILE", "cannot read"),
        ("TENANT_AUTH_OPS_LISTEN", "must be an address and a port"),
        ("TENANT_AUTH_DRAIN_DELAY", "must be at most 300s"),
        ("TENANT_AUTH_LOG_FORMAT", "must be text, json or auto"),
    ] {
        let line = error_text.lines().find(|line| line.trim_start().starts_with(&format!("{variable}: ")));
        assert!(line.is_some_and(|line| line.contains(problem)), "{variable}: {error_text}");
    }
    let unknown = "unknown variable TENANT_AUTH_DATABSE_TIMEOUT; did you mean TENANT_AUTH_DATABASE_TIMEOUT?";
    assert!(error_text.contains(unknown), "{error_text}");
    assert!(!error_text.contains("TENANT_AUTH_PORT") && !error_text.contains("SERVICE_HOST"), "{error_text}");
}

#[tokio::test]
async fn every_command_works_on_remote_database() {
    let database = HranaServer::builder().token(TOKEN).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
    let configured = |command: &str| {
        let mut program = program();
        program
            .arg(command)
            .env("TENANT_AUTH_DATABASE_URL", database.url())
            .env("TENANT_AUTH_DATABASE_TOKEN_FILE", &token)
            .env("TENANT_AUTH_OPS_LISTEN", "127.0.0.1:0")
            .env("TENANT_AUTH_DRAIN_DELAY", "0s")
            .env("TENANT_AUTH_LOG", "off");
        program
    };
    let shown = run(configured("check-config").args(["--listen", "127.0.0.1:0"])).await;
    assert!(shown.status.success());
    let shown = text(&shown.stdout);
    assert!(shown.contains("TENANT_AUTH_LISTEN") && shown.contains("127.0.0.1:0  (flag)"), "{shown}");
    assert!(shown.contains(&format!("{}  (environment)", database.url())), "{shown}");
    assert!(!shown.contains(TOKEN), "{shown}");

    let early = run(configured("check-config").arg("--connect")).await;
    assert!(text(&early.stderr).contains("run `tenant-auth-svc migrate`"), "{}", text(&early.stderr));
    let migrated = run(&mut configured("migrate")).await;
    assert!(text(&migrated.stdout).contains("applied initial"), "{}", text(&migrated.stdout));
    let again = run(&mut configured("migrate")).await;
    assert!(text(&again.stdout).contains("up to date"), "{}", text(&again.stdout));
    assert!(run(configured("check-config").arg("--connect")).await.status.success());

    let mut serve = configured("serve")
        .args(["--listen", "127.0.0.1:0", "--log", "info", "--log-format", "json"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(serve.stderr.take().unwrap()).lines();
    let (address, ops) = addresses(&mut log).await;
    http_until(ops, "GET /readyz", |answer| answer.status == 200).await;
    let endpoint = format!("http://{address}");
    let mut ask_ops = program();
    ask_ops.arg("healthcheck").env("TENANT_AUTH_OPS_LISTEN", ops.to_string());
    let ready = run(&mut ask_ops).await;
    assert!(ready.status.success(), "{}", text(&ready.stderr));
    assert_eq!(text(&ready.stdout), "ready\n");
    let healthy = run(program().args(["healthcheck", "--endpoint", &endpoint, "--service", ""])).await;
    assert!(healthy.status.success(), "{}", text(&healthy.stderr));
    signal(&serve, "TERM");
    assert!(serve.wait().await.unwrap().success());
    let gone = run(program().args(["healthcheck", "--endpoint", &endpoint])).await;
    assert_eq!(gone.status.code(), Some(1));
    assert!(text(&gone.stderr).contains("does not respond"), "{}", text(&gone.stderr));
    let gone = run(&mut ask_ops).await;
    assert_eq!(gone.status.code(), Some(1));
    assert!(text(&gone.stderr).contains("/readyz does not respond"), "{}", text(&gone.stderr));
    for unusable in ["nowhere", "127.0.0.1:0"] {
        let refused = run(program().arg("healthcheck").env("TENANT_AUTH_OPS_LISTEN", unusable)).await;
        assert_eq!(refused.status.code(), Some(2), "{unusable}");
        assert!(text(&refused.stderr).contains("TENANT_AUTH_OPS_LISTEN"), "{}", text(&refused.stderr));
    }
}

#[tokio::test]
async fn first_signal_makes_unready_and_second_skips_drain_delay() {
    let database = HranaServer::builder().start().await.unwrap();
    let mut serve = program()
        .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"])
        .env("TENANT_AUTH_DATABASE_URL", database.url())
        .env("TENANT_AUTH_CREATE_SCHEMA", "true")
        .env("TENANT_AUTH_OPS_LISTEN", "127.0.0.1:0")
        .env("TENANT_AUTH_DRAIN_DELAY", "300s")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(serve.stderr.take().unwrap()).lines();
    let (address, ops) = addresses(&mut log).await;
    http_until(ops, "GET /readyz", |answer| answer.status == 200).await;

    signal(&serve, "TERM");
    let answer = http_until(ops, "GET /readyz", |answer| answer.status == 503).await;
    assert_eq!(answer.body, "stopping");
    assert_eq!(http_request(ops, "GET /livez").await.unwrap().status, 200);
    assert_eq!(validate(&address, &unknown_key()).await.verdict(), v1::Verdict::Unknown);
    let unready = run(program().args(["healthcheck", "--endpoint", &format!("http://{address}")])).await;
    assert!(text(&unready.stderr).contains("NOT_SERVING"), "{}", text(&unready.stderr));
    let unready = run(program().arg("healthcheck").env("TENANT_AUTH_OPS_LISTEN", ops.to_string())).await;
    assert_eq!(unready.status.code(), Some(1));
    assert!(text(&unready.stderr).contains("stopping (HTTP 503)"), "{}", text(&unready.stderr));
    assert!(serve.try_wait().unwrap().is_none(), "the delay is longer than this test");

    signal(&serve, "INT");
    let ended = tokio::time::timeout(Duration::from_secs(30), serve.wait()).await;
    assert!(ended.expect("the second signal must end the drain delay").unwrap().success());
}

#[tokio::test]
async fn wrong_database_token_is_reported_by_name_without_value() {
    let database = HranaServer::builder().token(TOKEN).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "not-the-token").unwrap();
    let output = run(program()
        .args(["migrate", "--log", "off", "--database-url", &database.url(), "--database-token-file"])
        .arg(&token))
    .await;
    assert_eq!(output.status.code(), Some(1));
    let error_text = text(&output.stderr);
    assert!(error_text.contains("database failure (denied): HTTP 401"), "{error_text}");
    assert!(!error_text.contains("not-the-token"), "{error_text}");
}

/// The example file for operators contains every variable, and is accepted once its two blanks are filled in.
#[tokio::test]
async fn example_configuration_lists_every_variable() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let example = include_str!("../../../deploy/config/tenant-auth.env");
    let mut check = program();
    check.arg("check-config");
    let mut named = Vec::new();
    for line in example.lines() {
        let Some((name, value)) = line.trim_start_matches('#').split_once('=') else { continue };
        if name.starts_with("TENANT_AUTH_") && !name.contains(' ') {
            named.push(name.to_owned());
            check.env(name, value);
        }
    }
    check.env("TENANT_AUTH_DATABASE_TOKEN_FILE", &token);
    let output = run(&mut check).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    let known: Vec<_> = shown
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| word.starts_with("TENANT_AUTH_"))
        .map(str::to_owned)
        .collect();
    named.sort();
    let mut sorted = known;
    sorted.sort();
    assert_eq!(named, sorted, "the example must have the program's variables");
}
