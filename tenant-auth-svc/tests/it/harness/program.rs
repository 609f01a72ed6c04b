//! The program as a process of its own, started as operators start it.

use std::{
    net::SocketAddr,
    process::{Output, Stdio},
    time::Duration,
};

use tenant_auth_testkit::HranaServer;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStderr, Command},
    task::JoinHandle,
};
use tonic::transport::Channel;

use super::{TestDatabase, captured::StrictJson, http_until};

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenant-auth-svc"));
    command.env_clear().kill_on_drop(true).stdin(Stdio::null());
    command
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) async fn run(command: &mut Command) -> Output {
    tokio::time::timeout(Duration::from_secs(30), command.output())
        .await
        .expect("the program must exit")
        .unwrap()
}

pub(crate) fn signal(child: &Child, name: &str) {
    let id = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
}

/// Reads the gRPC address and the ops HTTP address from the log of a `serve` that logs JSON.
pub(crate) async fn addresses(log: &mut Lines<BufReader<ChildStderr>>) -> (String, SocketAddr) {
    loop {
        let line = log.next_line().await.unwrap().unwrap();
        let field = |name: &str| {
            let (_, rest) = line.split_once(&format!("\"{name}\":\""))?;
            rest.split('"').next().map(str::to_owned)
        };
        if let (Some(address), Some(ops)) = (field("address"), field("ops")) {
            return (address, ops.parse().unwrap());
        }
    }
}

/// A running program whose log is read to its end.
pub(crate) struct RunningProgram {
    serve: Child,
    pub(crate) address: String,
    log: JoinHandle<Vec<String>>,
}

impl RunningProgram {
    pub(crate) async fn start(database: &HranaServer) -> Self {
        Self::start_logging(database, "info").await
    }

    /// Starts the program with a log filter.
    pub(crate) async fn start_logging(database: &HranaServer, filter: &str) -> Self {
        let mut serve = program()
            .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"])
            .env("TENANT_AUTH_DATABASE_URL", database.url())
            .env("TENANT_AUTH_CREATE_SCHEMA", "true")
            .env("TENANT_AUTH_OPS_LISTEN", "127.0.0.1:0")
            .env("TENANT_AUTH_DRAIN_DELAY", "0s")
            .env("TENANT_AUTH_LOG", filter)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(serve.stderr.take().unwrap()).lines();
        let (address, ops) = addresses(&mut lines).await;
        let log = tokio::spawn(async move {
            let mut read = Vec::new();
            while let Some(line) = lines.next_line().await.unwrap() {
                read.push(line);
            }
            read
        });
        http_until(ops, "GET /readyz", |answer| answer.status == 200).await;
        Self { serve, address, log }
    }

    pub(crate) fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect_lazy()
    }

    /// Stops the program and returns every line. Panics at a line that a log collector would reject.
    pub(crate) async fn stop(mut self) -> Vec<String> {
        signal(&self.serve, "TERM");
        assert!(self.serve.wait().await.unwrap().success());
        let lines = self.log.await.unwrap();
        for line in &lines {
            let read = serde_json::from_str::<StrictJson>(line).map(|StrictJson| ());
            assert!(read.is_ok(), "{read:?}: {line}");
        }
        lines
    }
}

pub(crate) struct CommandResult {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `reconcile` as an operator does.
pub(crate) async fn run_reconcile(database: &TestDatabase, args: &[&str]) -> CommandResult {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tenant-auth-svc"));
    command
        .arg("reconcile")
        .env_clear()
        .args(args)
        .env("TENANT_AUTH_DATABASE_URL", database.server().url())
        .env("TENANT_AUTH_DATABASE_TOKEN_FILE", database.token_file());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    CommandResult {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
