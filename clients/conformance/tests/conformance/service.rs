//! The real service, as a process.

use std::{collections::BTreeMap, net::SocketAddr, process::Stdio};

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};

use crate::PATIENCE;

/// What every service here is told.
const SETTINGS: [(&str, &str); 9] = [
    ("TENANT_AUTH_LISTEN", "127.0.0.1:0"),
    ("TENANT_AUTH_OPS_LISTEN", "off"),
    ("TENANT_AUTH_DRAIN_DELAY", "0s"),
    ("TENANT_AUTH_LOG", "info,tenant_auth::rpc=off"),
    ("TENANT_AUTH_LOG_FORMAT", "json"),
    // Changes that are soon known are soon waited for.
    ("TENANT_AUTH_FEED_INTERVAL", "50ms"),
    // A busy machine must not look like a slow database.
    ("TENANT_AUTH_DATABASE_CONNECT_TIMEOUT", "10s"),
    ("TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT", "5s"),
    ("TENANT_AUTH_DATABASE_TIMEOUT", "10s"),
];

/// A running service. It is killed when this goes.
#[derive(Debug)]
pub(crate) struct Service {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    child: Child,
    /// Reads on, so that the service never waits for a reader.
    _log: JoinHandle<()>,
}

impl Service {
    pub(crate) async fn start(database: &str, settings: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenant-auth-svc-under-test"));
        command.arg("serve").env_clear().envs(SETTINGS).envs(settings);
        command.env("TENANT_AUTH_DATABASE_URL", database).env("TENANT_AUTH_CREATE_SCHEMA", "true");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let Some(log) = child.stderr.take() else { bail!("a service without a log") };
        let mut log = BufReader::new(log).lines();
        let serving = async {
            let mut said = String::new();
            while let Some(line) = log.next_line().await? {
                if let Some(address) = address(&line) {
                    return Ok(address);
                }
                said.push_str(&line);
            }
            bail!("the service ended: {said}")
        };
        let address = timeout(PATIENCE, serving).await.context("the service does not start")??;
        let log = tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Ok(Self { address, child, _log: log })
    }

    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// Where the service serves, if that is what this line of its log says.
fn address(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = if line["fields"].is_object() { &line["fields"] } else { &line };
    if fields["message"] != "serving" {
        return None;
    }
    fields["address"].as_str()?.parse().ok()
}
