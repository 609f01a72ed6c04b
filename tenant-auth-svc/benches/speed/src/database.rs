//! A remote database that counts its requests: the test server of the tests.

use std::collections::BTreeMap;

use tenant_auth_testkit::{Counters, HranaServer, StatementRows};
use tokio::runtime::Runtime;

/// A database on its own threads, because the load generator never yields its thread.
#[derive(Debug)]
pub struct Database {
    server: HranaServer,
    /// The URL of the database.
    pub url: String,
    _runtime: BackgroundRuntime,
}

/// A runtime that may be dropped in an async context.
#[derive(Debug)]
struct BackgroundRuntime(Option<Runtime>);

impl Drop for BackgroundRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Database {
    /// Starts a database.
    ///
    /// # Errors
    /// Fails if no thread, port or folder is available.
    pub fn start() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (sender, receiver) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            // Sending fails only if the receiver was dropped because the program exits.
            let _ = sender.send(HranaServer::builder().start().await);
        });
        let server = receiver.recv()??;
        Ok(Self { url: server.url(), server, _runtime: BackgroundRuntime(Some(runtime)) })
    }

    /// Runs a statement directly.
    ///
    /// # Errors
    /// Fails if the engine rejects it.
    pub fn execute(&self, sql: &str) -> anyhow::Result<()> {
        self.server.execute(sql).map(drop).map_err(anyhow::Error::msg)
    }

    /// Returns the rows that each statement has read and written since the last call.
    pub fn take_rows(&self) -> BTreeMap<String, StatementRows> {
        self.server.take_rows()
    }

    /// Returns the counters so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.server.counters()
    }
}
