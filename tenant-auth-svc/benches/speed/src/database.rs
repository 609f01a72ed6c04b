//! A remote database that counts what it is asked: the one that the tests use.

use tenant_auth_testkit::{Counters, HranaServer};
use tokio::runtime::Runtime;

/// A database on threads of its own: the load leaves the others no time.
#[derive(Debug)]
pub struct Database {
    server: HranaServer,
    /// Where it is.
    pub url: String,
    _runtime: BackgroundRuntime,
}

/// A runtime that may end where nobody may wait for it.
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
    /// Starts one.
    ///
    /// # Errors
    /// When there are no threads, no port or no folder for it.
    pub fn start() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (tell, told) = std::sync::mpsc::channel();
        runtime.spawn(async move {
            // Nobody waits any more only if everything has ended.
            let _ = tell.send(HranaServer::builder().start().await);
        });
        let server = told.recv()??;
        Ok(Self { url: server.url(), server, _runtime: BackgroundRuntime(Some(runtime)) })
    }

    /// What it has been asked so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.server.counters()
    }
}
