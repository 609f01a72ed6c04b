//! The same against a real primary with a real read replica, if the environment names them.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use tenant_auth_svc::domain::clock::SystemClock;

use crate::harness::{TestDatabase, TestService, outcome, read_url::two_urls, scrape::Scrape};

/// Longer than the stated bound, because the machine may be busy and the network slow.
const PATIENCE: Duration = Duration::from_secs(20);

/// Writes to the real standard error, which the test runner does not capture.
fn report(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Returns a service with both URLs and one with the primary's, if both servers are given.
async fn services() -> Option<(TestService, TestService)> {
    let given = (TestDatabase::real(), std::env::var("TENANT_AUTH_TEST_REPLICA_URL"));
    let (Some(primary), Ok(read_url)) = given else {
        report("SKIPPED: TENANT_AUTH_TEST_REMOTE_URL and TENANT_AUTH_TEST_REPLICA_URL are not both set");
        return None;
    };
    let beating = primary
        .settings()
        .with_flag("TENANT_AUTH_HEARTBEAT_INTERVAL", Some("1s".to_owned()))
        .with_flag("TENANT_AUTH_FEED_INTERVAL", Some("250ms".to_owned()));
    let elsewhere = TestService::start_with(beating, SystemClock::shared()).await;
    let mut config = two_urls(primary.settings(), &read_url);
    config.cache.feed_interval = Some(Duration::from_millis(250));
    let mut here = TestService::start_configured(config, SystemClock::shared()).await;
    here.running.wait_until_ready().await.unwrap();
    Some((here, elsewhere))
}

/// Waits until a condition holds, and returns how long that took.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    started.elapsed()
}

#[tokio::test]
async fn real_read_replica_answers_and_shows_changes_of_both_services() {
    let Some((here, elsewhere)) = services().await else { return };
    let read = async |name: &str| Scrape::collect(&here).await.value(name);
    until("the read replica must be used", async || {
        read("tenant_auth_database_read_replica_used").await == 1.0
    })
    .await;
    let tenant = elsewhere.create_tenant("Acme").await;
    let answered = "tenant_auth_database_reads_total{source=\"read_replica\"}";
    let before = read(answered).await;
    let (key, key_id) = elsewhere.issue_key(&tenant, &[]).await;
    let validate = async |key: &str| outcome(&here.validate(key).await);
    until("the key must be known", async || validate(&key).await == "VERDICT_VALID").await;
    elsewhere.revoke_key(&key_id).await;
    let took =
        until("the revocation must be known", async || validate(&key).await == "VERDICT_REVOKED").await;
    report(&format!("a revocation elsewhere took effect after {took:?}"));
    until("the read replica must answer", async || read(answered).await > before).await;

    // Own changes, without a wait.
    for _ in 0..20 {
        let (key, key_id) = here.issue_key(&tenant, &[]).await;
        assert_eq!(validate(&key).await, "VERDICT_VALID");
        here.revoke_key(&key_id).await;
        assert_eq!(validate(&key).await, "VERDICT_REVOKED");
    }
    let lag = read("tenant_auth_database_read_replica_lag_seconds").await;
    report(&format!("the read replica lags {lag} s"));
    assert_eq!(read("tenant_auth_database_read_replica_used").await, 1.0, "it lags {lag} s");
}
