//! Changes of the callers file while the service runs.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tenant_auth_svc::domain::access::Role;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
};
use tonic::transport::{Channel, Endpoint};

use crate::harness::{
    TestDatabase, TestService,
    callers::{CallersFile, INFO, assert_unauthenticated},
    http_request,
    program::{addresses, program, signal},
    wire::call_path,
};

/// Maximum time to wait for an expected event.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

async fn files_status_line(service: &TestService) -> String {
    let answer = http_request(service.running.ops_address().unwrap(), "GET /readyz?verbose").await.unwrap();
    assert_eq!(answer.status, 200, "readiness does not depend on the files");
    answer.body.lines().find(|line| line.starts_with("files ")).unwrap().to_owned()
}

/// Opens a channel, and returns it with a counter of its connections.
async fn connection_counting_channel(service: &TestService) -> (Channel, Arc<AtomicUsize>) {
    let (address, connected) = (service.running.address(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&connected);
    let connecting = tower::service_fn(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        async move { TcpStream::connect(address).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://localhost").connect_with_connector(connecting).await.unwrap();
    (channel, connected)
}

#[tokio::test]
async fn caller_rotates_its_token_while_two_are_valid() {
    let file = CallersFile::new(&[("api", Role::Meter, &["old"])]);
    let service = file.service(&TestDatabase::embedded()).await;
    let reload = service.running.reloader();
    let call = async |token: &str| call_path(&service.channel, INFO, Some(&format!("Bearer {token}"))).await;
    call("old").await.unwrap();
    assert_unauthenticated(call("new").await);

    file.write(&[("api", Role::Meter, &["new", "old"])]);
    reload();
    call("old").await.unwrap();
    call("new").await.unwrap();

    file.write(&[("api", Role::Meter, &["new"])]);
    reload();
    assert_unauthenticated(call("old").await);
    call("new").await.unwrap();
}

#[tokio::test]
async fn removed_caller_is_refused_on_its_open_connection() {
    let file = CallersFile::new(&[("api", Role::Validator, &["a"]), ("mcp", Role::Validator, &["m"])]);
    let service = file.service(&TestDatabase::embedded()).await;
    let (channel, connected) = connection_counting_channel(&service).await;
    call_path(&channel, INFO, Some("Bearer a")).await.unwrap();

    file.write(&[("mcp", Role::Meter, &["m"])]);
    service.running.reloader()();
    assert_unauthenticated(call_path(&channel, INFO, Some("Bearer a")).await);
    call_path(&channel, INFO, Some("Bearer m")).await.unwrap();
    let validate = "/tenantauth.v1.ValidationService/ValidateKey";
    let demoted = call_path(&channel, validate, Some("Bearer m")).await.unwrap_err();
    assert_eq!(demoted.code(), tonic::Code::PermissionDenied, "the current roles apply");
    assert_eq!(connected.load(Ordering::Relaxed), 1, "the connection stays open");
}

#[tokio::test]
async fn invalid_callers_file_keeps_old_callers_and_is_reported() {
    let file = CallersFile::new(&[("api", Role::Meter, &["old"])]);
    let service = file.service(&TestDatabase::embedded()).await;
    let reload = service.running.reloader();
    assert_eq!(files_status_line(&service).await, "files     in effect");
    for broken in [Some(""), Some("[[caller]]\nname = 'api'"), Some("\u{0}"), None] {
        match broken {
            Some(text) => std::fs::write(file.path(), text).unwrap(),
            None => std::fs::remove_file(file.path()).unwrap(),
        }
        reload();
        let reported = files_status_line(&service).await;
        assert_eq!(
            reported,
            "files     reload refused for callers; the previous content stays in effect; the log says why"
        );
        call_path(&service.channel, INFO, Some("Bearer old")).await.unwrap();
    }
    let machine = http_request(service.running.ops_address().unwrap(), "GET /readyz?verbose&format=json")
        .await
        .unwrap();
    let reported: serde_json::Value = serde_json::from_str(&machine.body).unwrap();
    assert_eq!(reported["files"]["callers_refused"], true);
    assert_eq!(reported["files"]["certificates_refused"], false);

    file.write(&[("api", Role::Meter, &["new"])]);
    reload();
    assert_eq!(files_status_line(&service).await, "files     in effect");
    call_path(&service.channel, INFO, Some("Bearer new")).await.unwrap();
    assert_unauthenticated(call_path(&service.channel, INFO, Some("Bearer old")).await);
}

/// A pipe without a writer blocks its reader, as a hung disk does.
#[cfg(unix)]
#[tokio::test]
async fn hung_callers_file_blocks_no_other_reload() {
    let file = CallersFile::new(&[("api", Role::Meter, &["old"])]);
    let service = file.service(&TestDatabase::embedded()).await;
    std::fs::remove_file(file.path()).unwrap();
    let made = std::process::Command::new("mkfifo").arg(file.path()).status().unwrap();
    assert!(made.success());
    let looking = tokio::task::spawn_blocking(service.running.reloader());
    let path = file.path();
    // Opening a pipe blocks until both ends exist: once this returns, the service is blocked in its read.
    let pipe = tokio::task::spawn_blocking(move || std::fs::File::options().write(true).open(path).unwrap());
    let pipe = tokio::time::timeout(WAIT_TIMEOUT, pipe).await.unwrap().unwrap();
    let reported =
        tokio::time::timeout(WAIT_TIMEOUT, files_status_line(&service)).await.expect("it waits for no disk");
    assert_eq!(reported, "files     in effect");
    call_path(&service.channel, INFO, Some("Bearer old")).await.unwrap();

    std::fs::remove_file(file.path()).unwrap();
    file.write(&[("api", Role::Meter, &["new"])]);
    drop(pipe);
    tokio::time::timeout(WAIT_TIMEOUT, looking)
        .await
        .expect("the reload must continue once the disk responds")
        .unwrap();
    call_path(&service.channel, INFO, Some("Bearer new")).await.unwrap();
}

#[tokio::test]
async fn sighup_reloads_files_of_the_real_program() {
    let file = CallersFile::new(&[("api", Role::Meter, &["old"])]);
    let folder = tempfile::tempdir().unwrap();
    let mut serve = program()
        .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"])
        .env("TENANT_AUTH_DATABASE_URL", format!("file:{}", folder.path().join("auth.db").display()))
        .env("TENANT_AUTH_CREATE_SCHEMA", "true")
        .env("TENANT_AUTH_CALLERS_FILE", file.path())
        .env("TENANT_AUTH_OPS_LISTEN", "127.0.0.1:0")
        .env("TENANT_AUTH_DRAIN_DELAY", "0s")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(serve.stderr.take().unwrap()).lines();
    let (address, _) = addresses(&mut log).await;
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    call_path(&channel, INFO, Some("Bearer old")).await.unwrap();

    file.write(&[("api", Role::Meter, &["new"])]);
    signal(&serve, "HUP");
    let logged = async { while !log.next_line().await.unwrap().unwrap().contains("SIGHUP") {} };
    tokio::time::timeout(WAIT_TIMEOUT, logged)
        .await
        .expect("SIGHUP must trigger a reload and not end the process");
    let accepted = async { while call_path(&channel, INFO, Some("Bearer new")).await.is_err() {} };
    tokio::time::timeout(WAIT_TIMEOUT, accepted).await.expect("the new callers must be in effect");
    assert_unauthenticated(call_path(&channel, INFO, Some("Bearer old")).await);
    signal(&serve, "TERM");
    assert!(tokio::time::timeout(WAIT_TIMEOUT, serve.wait()).await.unwrap().unwrap().success());
}
