//! Three replicas, their database and their callers.

use std::{collections::BTreeMap, io::Write as _, sync::Arc};

use futures::future::try_join_all;
use tenant_auth_client::{Client, ClientBuilder, PresentedKey, Verdict};
use tenant_auth_conformance::{
    WAIT_TIMEOUT,
    service::{Scrape, Service},
};
use tenant_auth_proto::v1;
use tenant_auth_testkit::HranaServer;
use tokio::sync::Mutex;

use crate::load::ExpectedAnswer;

pub(crate) const REPLICAS: usize = 3;
pub(crate) const TENANT: &str = "acme";
const SCOPE: &str = "orders:read";

/// The tests run one at a time, because each uses the whole machine.
pub(crate) static EXCLUSIVE: Mutex<()> = Mutex::const_new(());

pub(crate) struct Cluster {
    pub(crate) replicas: Vec<Service>,
    pub(crate) database: HranaServer,
}

impl Cluster {
    /// Starts three replicas, waits until they are ready, and creates a tenant.
    pub(crate) async fn start() -> Self {
        let database = HranaServer::builder().start().await.unwrap();
        let replicas: Vec<_> =
            (0..REPLICAS).map(|_| Service::start(&database.url(), &BTreeMap::new()).unwrap()).collect();
        try_join_all(replicas.iter().map(Service::until_ready)).await.unwrap();
        let cluster = Self { replicas, database };
        let request = v1::CreateTenantRequest {
            tenant_id: TENANT.to_owned(),
            name: TENANT.to_owned(),
            plan: "pro".to_owned(),
        };
        cluster.client_of_replica(0).admin().create_tenant(request).await.unwrap();
        cluster
    }

    /// Returns a client of all replicas, which distributes its calls among them.
    pub(crate) fn client_of_all_replicas(&self) -> Client {
        new_client(&self.replicas)
    }

    /// Returns a client of one replica.
    pub(crate) fn client_of_replica(&self, number: usize) -> Client {
        new_client(&self.replicas[number..=number])
    }

    /// Creates `good` valid keys, a revoked key, a key that lacks a scope, and an unknown key.
    pub(crate) async fn prepare_keys(&self, good: usize) -> Vec<ExpectedAnswer> {
        let admin = self.client_of_replica(0).admin();
        let mut keys = Vec::new();
        for number in 0..=good {
            let request = v1::IssueKeyRequest {
                tenant_id: TENANT.to_owned(),
                name: format!("key {number}"),
                scopes: vec![SCOPE.to_owned()],
                expires_at: None,
                ..Default::default()
            };
            let issued = admin.issue_key(request).await.unwrap();
            let mut verdict = Verdict::Valid;
            if number == good {
                admin.revoke_key(&issued.key.key_id, "a test").await.unwrap();
                verdict = Verdict::Revoked;
            }
            keys.push(ExpectedAnswer { key: Arc::new(issued.plaintext), scope: SCOPE, verdict });
        }
        let lacking =
            ExpectedAnswer { scope: "orders:write", verdict: Verdict::InsufficientScope, ..keys[0].clone() };
        keys.extend([lacking, never_issued_key(0)]);
        keys
    }

    /// Reads the metrics of each replica.
    pub(crate) async fn scrapes(&self) -> Vec<Scrape> {
        try_join_all(self.replicas.iter().map(Service::scrape)).await.unwrap()
    }

    /// Returns how many validations each replica has answered.
    pub(crate) async fn validation_counts(&self) -> Vec<u64> {
        self.scrapes().await.iter().map(Scrape::validation_count).collect()
    }
}

/// Returns a key that was never issued.
pub(crate) fn never_issued_key(number: usize) -> ExpectedAnswer {
    let key = PresentedKey::new(format!("a-key-that-is-nobodys-{number}"));
    ExpectedAnswer { key: Arc::new(key), scope: SCOPE, verdict: Verdict::Unknown }
}

fn new_client(replicas: &[Service]) -> Client {
    client_with(replicas, |builder| builder)
}

/// Returns a client of some replicas without a near-cache, with further configuration.
pub(crate) fn client_with(
    replicas: &[Service],
    settings: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> Client {
    let endpoint = |replica: &Service| format!("http://{}", replica.address);
    let (first, others) = replicas.split_first().unwrap();
    let builder = Client::builder(endpoint(first)).timeout(WAIT_TIMEOUT / 2).without_near_cache();
    let builder = others.iter().fold(builder, |builder, other| builder.endpoint(endpoint(other)));
    settings(builder).connect_lazy().unwrap()
}

/// Prints past the output capture of passing tests.
pub(crate) fn print(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
