//! A service with an embedded database in this process, and a client of it.

pub(crate) mod example;
pub(crate) mod limits;

use std::{
    io::ErrorKind,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use futures::TryStreamExt as _;
use tempfile::TempDir;
use tenant_auth_client::{AdminClient, Client, Error, PresentedKey, proto};
use tenant_auth_svc::{
    config::{ServiceConfig, Settings},
    database::libsql::{LockError, OpenError},
    domain::clock::SystemClock,
    server::{self, RunningService, StartError},
};

/// Generous for a busy machine; no test waits for it.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// A running service and a client of it.
pub(crate) struct Service {
    pub(crate) client: Client,
    pub(crate) running: RunningService,
    pub(crate) folder: TempDir,
}

/// A stopped service: its address and its database.
pub(crate) struct Stopped {
    pub(crate) address: SocketAddr,
    pub(crate) folder: TempDir,
}

impl Service {
    pub(crate) async fn start() -> Self {
        Stopped::new(SocketAddr::from(([127, 0, 0, 1], 0))).start().await
    }

    pub(crate) async fn stop(self) -> Stopped {
        let address = self.running.address();
        self.running.stop().await;
        Stopped { address, folder: self.folder }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.running.address())
    }

    pub(crate) fn admin(&self) -> AdminClient {
        self.client.admin()
    }

    /// Creates the tenant `acme` and issues a key that may read orders.
    pub(crate) async fn key(&self) -> PresentedKey {
        let tenant = proto::CreateTenantRequest {
            tenant_id: "acme".to_owned(),
            name: "Acme".to_owned(),
            plan: "pro".to_owned(),
        };
        let tenant = self.admin().create_tenant(tenant).await.unwrap();
        let request = proto::IssueKeyRequest {
            tenant_id: tenant.tenant.unwrap().tenant_id,
            scopes: vec!["demo:read".to_owned(), "orders:read".to_owned()],
            ..Default::default()
        };
        self.admin().issue_key(request).await.unwrap().plaintext
    }
}

impl Stopped {
    /// Returns a service at an address that was not started yet.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, folder: tempfile::tempdir().unwrap() }
    }

    /// Starts the service with the same database, at the same address.
    pub(crate) async fn start(self) -> Service {
        let (running, folder) = self.start_with(&[]).await;
        let endpoint = format!("http://{}", running.address());
        let client = Client::builder(endpoint).timeout(WAIT_TIMEOUT).connect().await.unwrap();
        Service { client, running, folder }
    }

    /// Starts the service with more settings, and without a client.
    pub(crate) async fn start_with(self, more: &[(&'static str, &str)]) -> (RunningService, TempDir) {
        let database = format!("file:{}", self.folder.path().join("test.db").display());
        let settings = Settings::from_environment()
            .restricted_to(|_| false)
            .with_flag("TENANT_AUTH_LISTEN", Some(self.address.to_string()))
            .with_flag("TENANT_AUTH_OPS_LISTEN", Some("off".to_owned()))
            .with_flag("TENANT_AUTH_DRAIN_DELAY", Some("0s".to_owned()))
            .with_flag("TENANT_AUTH_CREATE_SCHEMA", Some("true".to_owned()))
            .with_flag("TENANT_AUTH_DATABASE_URL", Some(database));
        let add = |settings: Settings, (name, value): &(&'static str, &str)| {
            settings.with_flag(name, Some((*value).to_owned()))
        };
        let settings = more.iter().fold(settings, add);
        // In the same process the previous service may hold the database lock until its threads have ended.
        let starting = async {
            loop {
                let (config, _) = ServiceConfig::read(settings.clone()).unwrap();
                match server::start(config, SystemClock::shared()).await {
                    Err(StartError::Open(OpenError::Lock(LockError::Held { .. }))) => {
                        tokio::task::yield_now().await
                    }
                    // Connections of other tests may use the port.
                    Err(StartError::Listen { source, .. }) if source.kind() == ErrorKind::AddrInUse => {
                        tokio::task::yield_now().await
                    }
                    started => return started.unwrap(),
                }
            }
        };
        let mut running = tokio::time::timeout(WAIT_TIMEOUT, starting).await.unwrap();
        running.wait_until_ready().await.unwrap();
        (running, self.folder)
    }
}

/// Waits for a condition.
pub(crate) async fn until(mut condition: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT_TIMEOUT, waiting).await.unwrap();
}

/// Returns the total usage of a tenant.
pub(crate) async fn usage_sum(client: &Client, tenant: &str) -> Result<i64, Error> {
    let query = proto::QueryUsageRequest {
        tenant_id: tenant.to_owned(),
        start_time: Some(SystemTime::UNIX_EPOCH.into()),
        end_time: Some((SystemTime::now() + Duration::from_secs(3_600)).into()),
        page_size: 1,
        ..Default::default()
    };
    let sums: Vec<_> = client.query_usage(query).try_collect().await?;
    Ok(sums.iter().map(|sum| sum.quantity).sum())
}
