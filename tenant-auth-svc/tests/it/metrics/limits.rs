//! Metrics of limits, and their line in `/readyz`.

use std::time::Duration;

use tenant_auth_proto::v1::{self, Verdict};
use tenant_auth_svc::domain::clock::SystemClock;
use tenant_auth_testkit::Fault;
use tonic::Code;

use crate::harness::{
    TestDatabase, TestService, http_request,
    limits::{consume, credits, limit_of, store_limit},
    scrape::Scrape,
};

const UNDECIDED: &str = "tenant_auth_limit_decisions_total{result=\"undecided\",decided_by=\"local_share\"}";
const FAILED: &str = "tenant_auth_limit_exchanges_total{outcome=\"failed\"}";
const FAILING: &str = "tenant_auth_limit_exchange_failing_seconds";
const STARVED: &str = "tenant_auth_limit_leases_starved_total";

/// The decisions with a result, wherever they were made.
fn decisions(scrape: &Scrape, result: &str) -> f64 {
    let series = ["lease", "database", "local_share", "outage_policy"].map(|decided_by| {
        format!("tenant_auth_limit_decisions_total{{result=\"{result}\",decided_by=\"{decided_by}\"}}")
    });
    series.iter().map(|series| scrape.count(series)).sum()
}

async fn verdict(service: &TestService, key: &str, amount: i64) -> Verdict {
    consume(service, key, amount).await.unwrap().verdict()
}

async fn readyz(service: &TestService, query: &str) -> String {
    let path = format!("GET /readyz?verbose{query}");
    http_request(service.running.ops_address().unwrap(), &path).await.unwrap().body
}

/// Waits until the replica's metrics fulfil a condition.
async fn scrape_until(service: &TestService, is_met: impl Fn(&Scrape) -> bool) -> Scrape {
    let wait = async {
        loop {
            let scrape = Scrape::collect(service).await;
            if is_met(&scrape) {
                return scrape;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.expect("the metrics change")
}

#[tokio::test]
async fn decisions_of_limits_are_counted_by_result() {
    let service = TestService::start(&TestDatabase::embedded()).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, _) = service.issue_key(&tenant, &[]).await;
    store_limit(&service, limit_of(&tenant, "balance", credits(3))).await;
    store_limit(&service, v1::Limit { shadow: true, ..limit_of(&tenant, "trial", credits(2)) }).await;
    let rate =
        v1::Rate { amount: 1, per: Some(prost_types::Duration { seconds: 86_400, nanos: 0 }), burst: 5 };
    let calls =
        v1::Limit { metric: "calls".to_owned(), ..limit_of(&tenant, "calls", v1::limit::Rule::Rate(rate)) };
    store_limit(&service, calls).await;

    let verdicts = [
        verdict(&service, &key, 2).await,
        verdict(&service, &key, 1).await,
        verdict(&service, &key, 1).await,
    ];
    assert_eq!(verdicts, [Verdict::Valid, Verdict::Valid, Verdict::QuotaExceeded]);
    let scrape = Scrape::collect(&service).await;
    // Of two limits, three times: the balance admits two, and the trial one.
    for (result, count) in [
        ("admitted", 3.0),
        ("quota_exceeded", 1.0),
        ("shadow_exceeded", 2.0),
        ("rate_limited", 0.0),
        ("undecided", 0.0),
    ] {
        assert_eq!(decisions(&scrape, result), count, "{result}:\n{}", scrape.text);
    }
    scrape.assert_value("tenant_auth_limit_counters", 3.0);
    scrape.assert_value(FAILED, 0.0);
    scrape.assert_value(FAILING, 0.0);
    scrape.assert_value(STARVED, 0.0);
    let exchanges = scrape.value("tenant_auth_limit_exchanges_total{outcome=\"ok\"}");
    assert!(exchanges >= 1.0);
    assert!(scrape.value("tenant_auth_limit_exchange_duration_seconds_count") >= exchanges);
    assert!(scrape.value("tenant_auth_limit_leases_exchanged_total") >= 2.0);
    assert!(
        !scrape.text.contains("trial") && !scrape.text.contains("balance"),
        "no name of a limit is a label"
    );
    assert!(readyz(&service, "").await.contains("\nlimits    leases are exchanged since "));
}

#[tokio::test]
async fn failing_exchange_of_leases_is_visible_until_it_succeeds() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start_with(database.settings(), SystemClock::shared()).await;
    assert!(readyz(&service, "").await.contains("\nlimits    no lease exchanged yet\n"));
    let tenant = service.create_tenant("Acme").await;
    let (key, _) = service.issue_key(&tenant, &[]).await;
    store_limit(&service, limit_of(&tenant, "balance", credits(1_000))).await;
    assert_eq!(verdict(&service, &key, 1).await, Verdict::Valid);

    database.server().faults().set(Fault::unauthorized());
    // More than is held.
    assert_eq!(consume(&service, &key, 900).await.unwrap_err().code(), Code::Unavailable);
    let scrape =
        scrape_until(&service, |scrape| scrape.value(FAILED) > 0.0 && scrape.value(FAILING) > 0.0).await;
    scrape.assert_value(UNDECIDED, 1.0);
    let text = readyz(&service, "").await;
    assert!(text.contains("\nlimits    leases are NOT exchanged (denied) since "), "{text}");
    let json: serde_json::Value = serde_json::from_str(&readyz(&service, "&format=json").await).unwrap();
    assert_eq!((&json["limits"]["state"], &json["limits"]["failure"]), (&"failing".into(), &"denied".into()));

    database.server().faults().clear();
    let exchanged = |scrape: &Scrape| scrape.value(FAILING) == 0.0;
    scrape_until(&service, exchanged).await;
    assert!(readyz(&service, "").await.contains("\nlimits    leases are exchanged since "));
    assert_eq!(verdict(&service, &key, 900).await, Verdict::Valid);
}

#[tokio::test]
async fn lease_that_lacks_what_another_replica_holds_counts_as_starved() {
    let database = TestDatabase::test_server().await;
    let holder = TestService::start_with(database.settings(), SystemClock::shared()).await;
    let starved = TestService::start_with(database.settings(), SystemClock::shared()).await;
    let tenant = holder.create_tenant("Acme").await;
    let (key, _) = holder.issue_key(&tenant, &[]).await;
    let shared = v1::Limit {
        on_outage: v1::OutagePolicy::LocalShare.into(),
        ..limit_of(&tenant, "balance", credits(80))
    };
    store_limit(&holder, shared).await;
    // A lease is then at least an eighth of what is left.
    assert_eq!(verdict(&holder, &key, 1).await, Verdict::Valid);
    assert_eq!(verdict(&starved, &key, 79).await, Verdict::QuotaExceeded);
    assert_eq!(Scrape::collect(&starved).await.value(STARVED), 1.0);
    assert_eq!(Scrape::collect(&holder).await.value(STARVED), 0.0);
}
