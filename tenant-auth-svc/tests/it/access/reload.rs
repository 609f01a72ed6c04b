//! A callers file that changes while the service runs.

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

use super::{CallersFile, INFO, assert_unknown};
use crate::{
    cli::{addresses, program, signal},
    harness::{Database, Service, http},
    wire::call,
};

/// How long what has to happen may take.
const PATIENCE: Duration = Duration::from_secs(30);

async fn files_line(service: &Service) -> String {
    let answer = http(service.running.ops_address().unwrap(), "GET /readyz?verbose").await.unwrap();
    assert_eq!(answer.status, 200, "it is ready whatever is in files");
    answer.body.lines().find(|line| line.starts_with("files ")).unwrap().to_owned()
}

/// A channel, and how often it has connected.
async fn counted(service: &Service) -> (Channel, Arc<AtomicUsize>) {
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
async fn two_tokens_at_once_let_a_caller_change_its_token() {
    let file = CallersFile::new(&[("api", Role::Meter, &["old"])]);
    let service = file.service(&Database::embedded()).await;
    let reload = service.running.reloader();
    let asked = async |token: &str| call(&service.channel, INFO, Some(&format!("Bearer {token}"))).await;
    asked("old").await.unwrap();
    assert_unknown(asked("new").await);

    file.write(&[("api", Role::Meter, &["new", "old"])]);
    reload();
    asked("old").await.unwrap();
    asked("new").await.unwrap();

    file.write(&[("api", Role::Meter, &["new"])]);
    reload();
    assert_unknown(asked("old").await);
    asked("new").await.unwrap();
}

#[tokio::test]
async fn a_caller_that_is_removed_is_refused_on_the_connection_that_it_has() {
    let file = CallersFile::new(&[("api", Role::Validator, &["a"]), ("mcp", Role::Validator, &["m"])]);
    let service = file.service(&Database::embedded()).await;
    let (channel, connected) = counted(&service).await;
    call(&channel, INFO, Some("Bearer a")).await.unwrap();

    file.write(&[("mcp", Role::Meter, &["m"])]);
    service.running.reloader()();
    assert_unknown(call(&channel, INFO, Some("Bearer a")).await);
    call(&channel, INFO, Some("Bearer m")).await.unwrap();
    let validate = "/tenantauth.v1.ValidationService/ValidateKey";
    let demoted = call(&channel, validate, Some("Bearer m")).await.unwrap_err();
    assert_eq!(demoted.code(), tonic::Code::PermissionDenied, "with the roles that it has now");
    assert_eq!(connected.load(Ordering::Relaxed), 1, "the connection goes on");
}

#[tokio::test]
async fn a_file_that_cannot_be_used_leaves_the_old_callers_in_force_and_is_told_of() {
    let file = CallersFile::new(&[("api", Role::Meter, &["old"])]);
    let service = file.service(&Database::embedded()).await;
    let reload = service.running.reloader();
    assert_eq!(files_line(&service).await, "files     in force");
    for broken in [Some(""), Some("[[caller]]\nname = 'api'"), Some("\u{0}"), None] {
        match broken {
            Some(text) => std::fs::write(file.path(), text).unwrap(),
            None => std::fs::remove_file(file.path()).unwrap(),
        }
        reload();
        let told = files_line(&service).await;
        assert_eq!(told, "files     the new callers cannot be used, the old ones stay; the log says why");
        call(&service.channel, INFO, Some("Bearer old")).await.unwrap();
    }
    let machine =
        http(service.running.ops_address().unwrap(), "GET /readyz?verbose&format=json").await.unwrap();
    let told: serde_json::Value = serde_json::from_str(&machine.body).unwrap();
    assert_eq!(told["files"]["callers_refused"], true);
    assert_eq!(told["files"]["certificates_refused"], false);

    file.write(&[("api", Role::Meter, &["new"])]);
    reload();
    assert_eq!(files_line(&service).await, "files     in force");
    call(&service.channel, INFO, Some("Bearer new")).await.unwrap();
    assert_unknown(call(&service.channel, INFO, Some("Bearer old")).await);
}

/// A pipe that nobody writes to reads like a disk that hangs.
#[cfg(unix)]
#[tokio::test]
async fn a_file_that_hangs_holds_nothing_else_up() {
    let file = CallersFile::new(&[("api", Role::Meter, &["old"])]);
    let service = file.service(&Database::embedded()).await;
    std::fs::remove_file(file.path()).unwrap();
    let made = std::process::Command::new("mkfifo").arg(file.path()).status().unwrap();
    assert!(made.success());
    let looking = tokio::task::spawn_blocking(service.running.reloader());
    let path = file.path();
    // A pipe opens when both ends are there: somebody reads now, and waits.
    let pipe = tokio::task::spawn_blocking(move || std::fs::File::options().write(true).open(path).unwrap());
    let pipe = tokio::time::timeout(PATIENCE, pipe).await.unwrap().unwrap();
    let told = tokio::time::timeout(PATIENCE, files_line(&service)).await.expect("it waits for no disk");
    assert_eq!(told, "files     in force");
    call(&service.channel, INFO, Some("Bearer old")).await.unwrap();

    std::fs::remove_file(file.path()).unwrap();
    file.write(&[("api", Role::Meter, &["new"])]);
    drop(pipe);
    tokio::time::timeout(PATIENCE, looking).await.expect("the disk is back").unwrap();
    call(&service.channel, INFO, Some("Bearer new")).await.unwrap();
}

#[tokio::test]
async fn a_hangup_has_the_real_program_read_its_files_anew() {
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
    call(&channel, INFO, Some("Bearer old")).await.unwrap();

    file.write(&[("api", Role::Meter, &["new"])]);
    signal(&serve, "HUP");
    let heard = async { while !log.next_line().await.unwrap().unwrap().contains("SIGHUP") {} };
    tokio::time::timeout(PATIENCE, heard).await.expect("a hangup is heard, and ends nothing");
    let accepted = async { while call(&channel, INFO, Some("Bearer new")).await.is_err() {} };
    tokio::time::timeout(PATIENCE, accepted).await.expect("the new callers are in force");
    assert_unknown(call(&channel, INFO, Some("Bearer old")).await);
    signal(&serve, "TERM");
    assert!(tokio::time::timeout(PATIENCE, serve.wait()).await.unwrap().unwrap().success());
}
