//! What a scene plays on: a database, replicas, and a customer's key.

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

/// Variables of a process.
pub(crate) type Variables = BTreeMap<String, String>;

/// All of it. Everything ends when this goes.
pub(crate) struct Scenery {
    pub(crate) replicas: Vec<Service>,
    /// A good key of the tenant.
    pub(crate) key: String,
    database: HranaServer,
}

impl Scenery {
    /// So many replicas at addresses of 127.0.0.1, in plaintext.
    pub(crate) async fn with_replicas(replicas: usize) -> anyhow::Result<Self> {
        let at: Vec<_> = (0..replicas)
            .map(|_| Ok((port::reserve_address()?, Variables::new())))
            .collect::<anyhow::Result<_>>()?;
        Self::with_replicas_at(&at).await
    }

    /// Replicas at these addresses, with settings of their own.
    pub(crate) async fn with_replicas_at(replicas: &[(SocketAddr, Variables)]) -> anyhow::Result<Self> {
        let database = HranaServer::builder().start().await?;
        // In plaintext, and gone when there is a key: the others may want to know who calls.
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

    /// One more, elsewhere; it is ready.
    pub(crate) async fn add_replica(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let replica = Service::start_at(address, &self.database.url(), &Variables::new())?;
        replica.until_ready().await?;
        self.replicas.push(replica);
        Ok(())
    }

    /// What a client without a near-cache is told about where they are.
    pub(crate) fn variables(&self) -> Variables {
        variables(&endpoint_list(self.replicas.iter().map(|replica| replica.address.to_string())))
    }

    /// A client of all of them.
    pub(crate) async fn runner(&self, language: &Language) -> anyhow::Result<Runner> {
        Runner::start(language, Path::new(RUNNER_BUILD_FOLDER), &self.variables()).await
    }

    /// Every replica has answered validations.
    pub(crate) async fn until_all_asked(&self) -> anyhow::Result<()> {
        try_join_all(self.replicas.iter().map(|replica| replica.until_validations(1))).await.map(drop)
    }
}

/// What a client is told that asks there, each time.
pub(crate) fn variables(endpoints: &str) -> Variables {
    let told = [("TENANT_AUTH_ENDPOINTS", endpoints), ("TENANT_AUTH_NEAR_CACHE", "off")];
    told.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// Endpoints in one text.
pub(crate) fn endpoint_list(endpoints: impl IntoIterator<Item = String>) -> String {
    endpoints.into_iter().collect::<Vec<_>>().join(",")
}

/// The answer to a validation of the key, within the client's own timeout.
pub(crate) async fn validate(runner: &Runner, key: &str) -> anyhow::Result<Value> {
    runner.send_command(json!({"op": "validate_key", "key": key, "scopes": [SCOPE], "timeout_ms": 0})).await
}

/// A call that must be answered well.
pub(crate) async fn assert_valid(runner: &Runner, key: &str) -> anyhow::Result<()> {
    let answer = validate(runner, key).await?;
    ensure!(answer["verdict"] == "VALID", "a good key was answered {answer}");
    Ok(())
}

/// How much of a metric is counted.
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
