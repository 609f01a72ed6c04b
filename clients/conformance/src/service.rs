//! The real service, as a process, at ports that stay its own.

use std::{
    collections::BTreeMap,
    fs::File,
    net::SocketAddr,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
    time::{interval, timeout},
};

use crate::{WAIT_TIMEOUT, language::program_folder, port};

/// How much of a log is shown when something went wrong.
const LOG_TAIL_LINES: usize = 40;

/// What each is told, beside what is its own. The intervals and lifetimes are the defaults.
const DEFAULT_SETTINGS: [(&str, &str); 5] = [
    // Long enough for requests to meet a replica that drains.
    ("TENANT_AUTH_DRAIN_DELAY", "500ms"),
    ("TENANT_AUTH_LOG", "warn"),
    // A busy machine must not look like a slow database.
    ("TENANT_AUTH_DATABASE_CONNECT_TIMEOUT", "10s"),
    ("TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT", "5s"),
    ("TENANT_AUTH_DATABASE_TIMEOUT", "10s"),
];

/// A running service. It is killed when this goes.
#[derive(Debug)]
pub struct Service {
    /// Where it listens.
    pub address: SocketAddr,
    command: Command,
    child: Child,
    ops: SocketAddr,
    log: PathBuf,
    _folder: TempDir,
}

impl Service {
    /// Starts one at a free port of 127.0.0.1, with these variables beside those that all have.
    ///
    /// # Errors
    /// When its program cannot be started.
    pub fn start(database: &str, settings: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        Self::start_at(port::reserve_address()?, database, settings)
    }

    /// Starts one that listens there.
    ///
    /// # Errors
    /// When its program cannot be started.
    pub fn start_at(
        address: SocketAddr,
        database: &str,
        settings: &BTreeMap<String, String>,
    ) -> anyhow::Result<Self> {
        let (ops, folder) = (port::reserve_address()?, tempfile::tempdir()?);
        let log = folder.path().join("log");
        let file = File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new(program_folder().join("tenant-auth-svc-under-test"));
        command.arg("serve").env_clear().envs(DEFAULT_SETTINGS);
        command.env("TENANT_AUTH_DATABASE_URL", database).env("TENANT_AUTH_CREATE_SCHEMA", "true");
        command.env("TENANT_AUTH_LISTEN", address.to_string()).env("TENANT_AUTH_OPS_LISTEN", ops.to_string());
        command.envs(settings);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        Ok(Self { address, command, child, ops, log, _folder: folder })
    }

    /// Sends it a signal, by its name without SIG.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn signal(&self, name: &str) -> anyhow::Result<()> {
        let id = self.child.id().context("it does not run")?.to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().await?;
        ensure!(sent.success(), "kill -s {name} {id}: {sent}");
        Ok(())
    }

    /// Asks it to end, as an orchestrator does, and waits until it has.
    ///
    /// # Errors
    /// When it does not end well, with the end of its log.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.signal("TERM").await?;
        let status = self.wait_for_exit().await?;
        ensure!(status.success(), "{status}: {}", self.log_tail());
        Ok(())
    }

    /// Ends it at once, without a word to anybody.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.start_kill()?;
        self.wait_for_exit().await.map(drop)
    }

    async fn wait_for_exit(&mut self) -> anyhow::Result<ExitStatus> {
        match timeout(WAIT_TIMEOUT, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => bail!("it does not end: {}", self.log_tail()),
        }
    }

    /// Starts it anew, at the same addresses.
    ///
    /// # Errors
    /// When its program cannot be started.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.child = self.command.spawn()?;
        Ok(())
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// When it does not get ready, with the end of its log.
    pub async fn until_ready(&self) -> anyhow::Result<()> {
        self.wait_until("it does not get ready", async || {
            http_get(self.ops, "/readyz").await.is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
        })
        .await
    }

    /// Waits until it has answered so many validations of single keys.
    ///
    /// # Errors
    /// When nobody asks it, with the end of its log.
    pub async fn until_validations(&self, validations: u64) -> anyhow::Result<()> {
        self.wait_until("nobody asks it", async || {
            self.scrape().await.is_ok_and(|told| told.validation_count() >= validations)
        })
        .await
    }

    /// How many lines of its log hold this text.
    #[must_use]
    pub fn log_line_count(&self, text: &str) -> usize {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains(text)).count()
    }

    /// Waits until this is so.
    ///
    /// # Errors
    /// When it does not come, with `what` and the end of its log.
    pub async fn wait_until(&self, what: &str, done: impl AsyncFn() -> bool) -> anyhow::Result<()> {
        let waiting = async {
            let mut turns = interval(Duration::from_millis(20));
            loop {
                turns.tick().await;
                if done().await {
                    return;
                }
            }
        };
        timeout(WAIT_TIMEOUT, waiting).await.with_context(|| format!("{what}: {}", self.log_tail()))
    }

    /// What it counts.
    ///
    /// # Errors
    /// When it does not answer, with the end of its log.
    pub async fn scrape(&self) -> anyhow::Result<Scrape> {
        let answer = http_get(self.ops, "/metrics").await;
        Ok(Scrape(answer.with_context(|| format!("no metrics: {}", self.log_tail()))?))
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

/// What `/metrics` told.
#[derive(Debug)]
pub struct Scrape(String);

impl Scrape {
    /// How many `ValidateKey` have ended.
    #[must_use]
    pub fn validation_count(&self) -> u64 {
        self.sum("grpc_server_handled_total{", "grpc_method=\"ValidateKey\"")
    }

    /// How many calls to the database have ended, in one lane.
    #[must_use]
    pub fn database_calls(&self, lane: &str) -> u64 {
        self.sum("tenant_auth_database_call_duration_seconds_count{", &format!("lane=\"{lane}\""))
    }

    /// … in all lanes.
    #[must_use]
    pub fn all_database_calls(&self) -> u64 {
        self.sum("tenant_auth_database_call_duration_seconds_count{", "lane=")
    }

    fn sum(&self, name: &str, label: &str) -> u64 {
        let lines = self.0.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
    }
}

/// The whole answer, head included; none if nobody answers.
async fn http_get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}
