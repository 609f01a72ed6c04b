//! A service in this process, and the binary as a child process.

pub(crate) mod credentials;
pub(crate) mod replicas;

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;
use tenant_auth_svc::{
    config::{ServiceConfig, Settings},
    domain::clock::{ManualClock, SharedClock, SystemClock, UnixMillis},
    server::{self, RunningService},
};
use tokio::runtime::Runtime;

pub(crate) struct Service {
    runtime: Runtime,
    running: Option<RunningService>,
    pub(crate) endpoint: String,
    _folder: TempDir,
}

pub(crate) struct CommandOutput {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Service {
    pub(crate) fn start() -> Self {
        Self::start_with("http://", |settings| settings)
    }

    /// Starts a service whose clock differs from that of this machine.
    pub(crate) fn start_at(now: UnixMillis) -> Self {
        Self::start_with_clock("http://", |settings| settings, ManualClock::at(now))
    }

    /// Starts a service with further settings; `scheme` is that of its endpoint.
    pub(crate) fn start_with(scheme: &str, set: impl FnOnce(Settings) -> Settings) -> Self {
        Self::start_with_clock(scheme, set, SystemClock::shared())
    }

    fn start_with_clock(scheme: &str, set: impl FnOnce(Settings) -> Settings, clock: SharedClock) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = format!("file:{}", folder.path().join("test.db").display());
        let settings = Settings::from_environment()
            .restricted_to(|_| false)
            .with_flag("TENANT_AUTH_LISTEN", Some("127.0.0.1:0".to_owned()))
            .with_flag("TENANT_AUTH_OPS_LISTEN", Some("off".to_owned()))
            .with_flag("TENANT_AUTH_DRAIN_DELAY", Some("0s".to_owned()))
            .with_flag("TENANT_AUTH_CREATE_SCHEMA", Some("true".to_owned()))
            .with_flag("TENANT_AUTH_DATABASE_URL", Some(database));
        let (config, _) = ServiceConfig::read(set(settings)).unwrap();
        let runtime = Runtime::new().unwrap();
        let running = runtime.block_on(async {
            let mut running = server::start(config, clock).await.unwrap();
            running.wait_until_ready().await.unwrap();
            running
        });
        let endpoint = format!("{scheme}{}", running.address());
        Self { runtime, running: Some(running), endpoint, _folder: folder }
    }

    /// Runs a future on the runtime of the service, to call it without the binary.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Returns the endpoint for health and metrics.
    pub(crate) fn ops_endpoint(&self) -> String {
        format!("http://{}", self.running.as_ref().unwrap().ops_address().unwrap())
    }

    /// Returns how many RPCs of a kind have finished. Requires the port for metrics.
    pub(crate) fn finished_rpcs(&self, rpc: &str) -> u64 {
        let address = self.running.as_ref().unwrap().ops_address().unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: ops\r\nconnection: close\r\n\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let is_counter = |line: &&str| {
            line.starts_with("grpc_server_handled_total{") && line.contains(&format!("grpc_method=\"{rpc}\""))
        };
        response
            .lines()
            .filter(is_counter)
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }

    /// Makes the service reload its files.
    pub(crate) fn reload(&self) {
        self.running.as_ref().unwrap().reloader()();
    }

    /// Makes the service poll the change log once.
    pub(crate) fn poll_feed(&self) {
        self.block_on(self.running.as_ref().unwrap().feed().poll()).unwrap();
    }

    /// Starts a command with much output, without reading it.
    pub(crate) fn spawn(&self, args: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_tenantctl"))
            .args(args)
            .env("TENANTCTL_ENDPOINT", &self.endpoint)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    pub(crate) fn run(&self, args: &[&str], stdin: &str) -> CommandOutput {
        self.run_command(&[], args, stdin)
    }

    /// Runs a command with further environment variables.
    pub(crate) fn run_with(&self, variables: &[(&str, &str)], args: &[&str]) -> CommandOutput {
        self.run_command(variables, args, "")
    }

    fn run_command(&self, variables: &[(&str, &str)], args: &[&str], stdin: &str) -> CommandOutput {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tenantctl"))
            .args(args)
            .env("TENANTCTL_ENDPOINT", &self.endpoint)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The program may exit without reading its input.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        CommandOutput {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command that must succeed, and parses its JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let ran = self.run(&[args, &["--json"]].concat(), "");
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap()
    }

    /// Returns the exit code and the verdict of `validate`.
    pub(crate) fn verdict(&self, key: &str, args: &[&str]) -> (i32, String) {
        let ran = self.run(&[&["validate", "--json"], args].concat(), key);
        let json: Value = serde_json::from_str(&ran.stdout).unwrap();
        (ran.code, json["verdict"].as_str().unwrap().to_owned())
    }

    pub(crate) fn tenant(&self, id: &str) {
        self.json(&["tenant", "create", "--name", "Acme", "--plan", "pro", "--id", id]);
    }

    /// Issues a key with the scope orders:read.
    pub(crate) fn key(&self, tenant: &str) -> String {
        let ran = self.run(&["key", "issue", "--tenant", tenant, "--scope", "orders:read", "-q"], "");
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        ran.stdout
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.runtime.block_on(self.running.take().unwrap().stop());
    }
}

pub(crate) fn denied(verdict: &str) -> (i32, String) {
    (1, verdict.to_owned())
}

pub(crate) fn valid() -> (i32, String) {
    (0, "VALID".to_owned())
}

/// Returns the id of the only key of a tenant.
pub(crate) fn only_key(service: &Service, tenant: &str) -> String {
    let keys = service.json(&["key", "list", "--tenant", tenant]);
    keys["keys"][0]["key_id"].as_str().unwrap().to_owned()
}
