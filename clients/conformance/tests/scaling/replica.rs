//! One replica: the service's program, at ports that stay its own.

use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
    time::{interval, timeout},
};

use crate::{PATIENCE, port};

/// How much of a log is shown when something went wrong.
const LAST_LINES: usize = 40;

/// What each is told, beside what is its own. The intervals and lifetimes are the defaults: they are what is measured.
const SETTINGS: [(&str, &str); 5] = [
    // Long enough for requests to meet a replica that drains.
    ("TENANT_AUTH_DRAIN_DELAY", "500ms"),
    ("TENANT_AUTH_LOG", "warn"),
    // A busy machine must not look like a slow database.
    ("TENANT_AUTH_DATABASE_CONNECT_TIMEOUT", "10s"),
    ("TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT", "5s"),
    ("TENANT_AUTH_DATABASE_TIMEOUT", "10s"),
];

/// A running replica. It is killed when this goes.
pub(crate) struct Replica {
    command: Command,
    child: Child,
    address: SocketAddr,
    ops: SocketAddr,
    log: PathBuf,
}

impl Replica {
    /// Starts one; its log is a file in this folder.
    pub(crate) fn start(database: &str, folder: &Path) -> Self {
        let (address, ops) = (port::take().unwrap(), port::take().unwrap());
        let log = folder.join(format!("{}.log", address.port()));
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenant-auth-svc-under-test"));
        command.arg("serve").env_clear().envs(SETTINGS);
        command.env("TENANT_AUTH_DATABASE_URL", database).env("TENANT_AUTH_CREATE_SCHEMA", "true");
        command.env("TENANT_AUTH_LISTEN", address.to_string()).env("TENANT_AUTH_OPS_LISTEN", ops.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).kill_on_drop(true);
        let child = command.spawn().unwrap();
        Self { command, child, address, ops, log }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Asks it to end, as an orchestrator does, and waits until it has.
    pub(crate) async fn stop(&mut self) {
        self.signal("TERM").await;
        let ended = timeout(PATIENCE, self.child.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("it does not end: {}", self.last_words())).unwrap();
        assert!(status.success(), "{status}: {}", self.last_words());
    }

    /// Makes it stand still: its kernel goes on to take connections and bytes.
    pub(crate) async fn hang(&self) {
        self.signal("STOP").await;
    }

    pub(crate) async fn go_on(&self) {
        self.signal("CONT").await;
    }

    async fn signal(&self, name: &str) {
        let id = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().await.unwrap();
        assert!(sent.success());
    }

    /// Starts it anew, at the same addresses.
    pub(crate) fn start_again(&mut self) {
        self.child = self.command.spawn().unwrap();
    }

    pub(crate) async fn until_ready(&self) {
        self.until("it does not get ready", async || {
            get(self.ops, "/readyz").await.is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
        })
        .await;
    }

    /// Waits until it has answered so many validations.
    pub(crate) async fn until_asked(&self, validations: u64) {
        self.until("nobody asks it", async || self.scrape().await.validations() >= validations).await;
    }

    /// Waits until it has read the change log so many times.
    pub(crate) async fn until_read(&self, readings: u64) {
        self.until("it does not read the log", async || self.scrape().await.calls("feed") >= readings).await;
    }

    async fn until(&self, what: &str, done: impl AsyncFn() -> bool) {
        let waiting = async {
            let mut turns = interval(Duration::from_millis(20));
            loop {
                turns.tick().await;
                if done().await {
                    return;
                }
            }
        };
        if timeout(PATIENCE, waiting).await.is_err() {
            panic!("{what}: {}", self.last_words());
        }
    }

    /// What it counts.
    pub(crate) async fn scrape(&self) -> Scrape {
        let answer = get(self.ops, "/metrics").await;
        Scrape(answer.unwrap_or_else(|| panic!("no metrics: {}", self.last_words())))
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }
}

/// What `/metrics` told.
pub(crate) struct Scrape(String);

impl Scrape {
    /// How many `ValidateKey` have ended.
    pub(crate) fn validations(&self) -> u64 {
        self.sum("tenant_auth_requests_total{", "ValidateKey\"")
    }

    /// How many calls to the database have ended, in one lane.
    pub(crate) fn calls(&self, lane: &str) -> u64 {
        self.sum("tenant_auth_database_call_duration_seconds_count{", &format!("lane=\"{lane}\""))
    }

    /// … in all lanes.
    pub(crate) fn all_calls(&self) -> u64 {
        self.sum("tenant_auth_database_call_duration_seconds_count{", "lane=")
    }

    fn sum(&self, name: &str, label: &str) -> u64 {
        let lines = self.0.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
    }
}

/// The whole answer, head included; none if nobody answers.
async fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}
