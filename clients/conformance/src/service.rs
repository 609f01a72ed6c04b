//! The real service, as a process with reserved ports.

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

/// Number of log lines to show after a failure.
const LOG_TAIL_LINES: usize = 40;

/// Settings of every service, in addition to its own. The intervals and lifetimes are the defaults.
const DEFAULT_SETTINGS: [(&str, &str); 5] = [
    // Long enough for requests to reach a draining replica.
    ("TENANT_AUTH_DRAIN_DELAY", "500ms"),
    ("TENANT_AUTH_LOG", "warn"),
    // A busy machine must not look like a slow database.
    ("TENANT_AUTH_DATABASE_CONNECT_TIMEOUT", "10s"),
    ("TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT", "5s"),
    ("TENANT_AUTH_DATABASE_TIMEOUT", "10s"),
];

/// A running service. Dropping it kills the process.
#[derive(Debug)]
pub struct Service {
    /// The address that it listens on.
    pub address: SocketAddr,
    command: Command,
    child: Child,
    ops: SocketAddr,
    log: PathBuf,
    _folder: TempDir,
}

impl Service {
    /// Starts a service on a free port of 127.0.0.1, with these variables in addition to the common ones.
    ///
    /// # Errors
    /// Fails if the program cannot be started.
    pub fn start(database: &str, settings: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        Self::start_at(port::reserve_address()?, database, settings)
    }

    /// Starts a service that listens on an address.
    ///
    /// # Errors
    /// Fails if the program cannot be started.
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

    /// Sends it a signal, named without SIG.
    ///
    /// # Errors
    /// Fails if it is not running.
    pub async fn signal(&self, name: &str) -> anyhow::Result<()> {
        let id = self.child.id().context("the service is not running")?.to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().await?;
        ensure!(sent.success(), "kill -s {name} {id}: {sent}");
        Ok(())
    }

    /// Stops it as an orchestrator does, and waits until it has exited.
    ///
    /// # Errors
    /// Fails if it does not exit successfully, with the end of its log.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.signal("TERM").await?;
        let status = self.wait_for_exit().await?;
        ensure!(status.success(), "{status}: {}", self.log_tail());
        Ok(())
    }

    /// Kills it.
    ///
    /// # Errors
    /// Fails if it does not end.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.start_kill()?;
        self.wait_for_exit().await.map(drop)
    }

    async fn wait_for_exit(&mut self) -> anyhow::Result<ExitStatus> {
        match timeout(WAIT_TIMEOUT, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => bail!("the service does not exit: {}", self.log_tail()),
        }
    }

    /// Starts it again on the same addresses.
    ///
    /// # Errors
    /// Fails if the program cannot be started.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.child = self.command.spawn()?;
        Ok(())
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// Fails if it does not become ready, with the end of its log.
    pub async fn until_ready(&self) -> anyhow::Result<()> {
        self.wait_until("the service does not become ready", async || {
            http_get(self.ops, "/readyz").await.is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
        })
        .await
    }

    /// Waits until it has answered this many validations of single keys.
    ///
    /// # Errors
    /// Fails if it does not receive them, with the end of its log.
    pub async fn until_validations(&self, validations: u64) -> anyhow::Result<()> {
        self.wait_until("the service receives no calls", async || {
            self.scrape().await.is_ok_and(|scraped| scraped.validation_count() >= validations)
        })
        .await
    }

    /// Returns how many lines of its log contain this text.
    #[must_use]
    pub fn log_line_count(&self, text: &str) -> usize {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains(text)).count()
    }

    /// Waits until a condition holds.
    ///
    /// # Errors
    /// Fails if it does not hold in time, with `what` and the end of its log.
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

    /// Reads its metrics.
    ///
    /// # Errors
    /// Fails if it does not answer, with the end of its log.
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

/// The output of `/metrics`.
#[derive(Debug)]
pub struct Scrape(String);

impl Scrape {
    /// Returns how many `ValidateKey` calls have ended.
    #[must_use]
    pub fn validation_count(&self) -> u64 {
        self.sum("grpc_server_handled_total{", "grpc_method=\"ValidateKey\"")
    }

    /// Returns how many database calls of one lane have ended.
    #[must_use]
    pub fn database_calls(&self, lane: &str) -> u64 {
        self.sum("tenant_auth_database_call_duration_seconds_count{", &format!("lane=\"{lane}\""))
    }

    /// Returns how many database calls of all lanes have ended.
    #[must_use]
    pub fn all_database_calls(&self) -> u64 {
        self.sum("tenant_auth_database_call_duration_seconds_count{", "lane=")
    }

    fn sum(&self, name: &str, label: &str) -> u64 {
        let lines = self.0.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
    }
}

/// Returns the whole response including its headers; `None` if there is no response.
async fn http_get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}
