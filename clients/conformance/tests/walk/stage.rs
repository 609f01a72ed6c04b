//! The environment of a scene: a database, replicas and a customer key.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tenant_auth_conformance::{
    administration::AdminClient, language::Language, port, runner::Runner, service::Service,
};
use tenant_auth_testkit::HranaServer;

use crate::RUNNER_BUILD_FOLDER;

/// The only tenant.
pub(crate) const TENANT: &str = "acme";
const SCOPE: &str = "orders:read";

/// Environment variables of a process.
pub(crate) type Variables = BTreeMap<String, String>;

/// The environment. Dropping it ends all processes.
pub(crate) struct Scenery {
    pub(crate) replicas: Vec<Service>,
    /// A valid key of the tenant.
    pub(crate) key: String,
    database: HranaServer,
}

impl Scenery {
    /// Starts `replicas` replicas at addresses of 127.0.0.1, in plaintext.
    pub(crate) async fn with_replicas(replicas: usize) -> anyhow::Result<Self> {
        let at: Vec<_> = (0..replicas)
            .map(|_| Ok((port::reserve_address()?, Variables::new())))
            .collect::<anyhow::Result<_>>()?;
        Self::with_replicas_at(&at).await
    }

    /// Starts replicas at these addresses, each with its own settings.
    pub(crate) async fn with_replicas_at(replicas: &[(SocketAddr, Variables)]) -> anyhow::Result<Self> {
        let database = HranaServer::builder().start().await?;
        // A temporary replica in plaintext creates the key, because the others may require callers to
        // authenticate.
        let operator = Service::start(&database.url(), &Variables::new())?;
        let start = |(address, settings): &(SocketAddr, Variables)| {
            Service::start_at(*address, &database.url(), settings)
        };
        let replicas = replicas.iter().map(start).collect::<Result<Vec<_>, _>>()?;
        let mut administration = AdminClient::connect(operator.address)?;
        administration.create_tenant(TENANT).await?;
        let key = administration.issue_key("walk", TENANT, &[SCOPE.to_owned()], None).await?.plaintext;
        try_join_all(replicas.iter().map(Service::until_ready)).await?;
        Ok(Self { replicas, key, database })
    }

    /// Starts another replica at an address, and waits until it is ready.
    pub(crate) async fn add_replica(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let replica = Service::start_at(address, &self.database.url(), &Variables::new())?;
        replica.until_ready().await?;
        self.replicas.push(replica);
        Ok(())
    }

    /// Returns the variables of a client without a near-cache that uses these replicas.
    pub(crate) fn variables(&self) -> Variables {
        variables(&endpoint_list(self.replicas.iter().map(|replica| replica.address.to_string())))
    }

    /// Starts a client of all replicas.
    pub(crate) async fn runner(&self, language: &Language) -> anyhow::Result<Runner> {
        Runner::start(language, Path::new(RUNNER_BUILD_FOLDER), &self.variables()).await
    }

    /// Waits until every replica has answered validations.
    pub(crate) async fn until_all_asked(&self) -> anyhow::Result<()> {
        try_join_all(self.replicas.iter().map(|replica| replica.until_validations(1))).await.map(drop)
    }
}

/// Returns the variables of a client of these endpoints, without a near-cache.
pub(crate) fn variables(endpoints: &str) -> Variables {
    let values = [("TENANT_AUTH_ENDPOINTS", endpoints), ("TENANT_AUTH_NEAR_CACHE", "off")];
    values.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// Joins endpoints to one text.
pub(crate) fn endpoint_list(endpoints: impl IntoIterator<Item = String>) -> String {
    endpoints.into_iter().collect::<Vec<_>>().join(",")
}

/// Validates the key with the client's own timeout, and returns the answer.
pub(crate) async fn validate(runner: &Runner, key: &str) -> anyhow::Result<Value> {
    runner.send_command(json!({"op": "validate_key", "key": key, "scopes": [SCOPE], "timeout_ms": 0})).await
}

/// Validates the key, which must succeed.
pub(crate) async fn assert_valid(runner: &Runner, key: &str) -> anyhow::Result<()> {
    let answer = validate(runner, key).await?;
    ensure!(answer["verdict"] == "VALID", "a valid key was answered {answer}");
    Ok(())
}

/// Returns the counted usage of a metric.
pub(crate) async fn usage_total(runner: &Runner, metric: &str) -> anyhow::Result<u64> {
    const QUERY_MARGIN: Duration = Duration::from_secs(2 * 60 * 60);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let (start, end) = (now.saturating_sub(QUERY_MARGIN).as_millis(), (now + QUERY_MARGIN).as_millis());
    let query = json!({
        "op": "query_usage", "tenant_id": TENANT, "metric": metric, "bucket": "HOUR",
        "start_ms": u64::try_from(start)?, "end_ms": u64::try_from(end)?
    });
    let answer = runner.send_command(query).await?;
    let sums = answer["sums"].as_array().with_context(|| format!("usage was answered {answer}"))?;
    Ok(sums.iter().filter_map(|sum| sum["quantity"].as_u64()).sum())
}
