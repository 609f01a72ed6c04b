//! How many series a server exports to which nothing has happened yet.

use crate::harness::{
    TestDatabase, TestService,
    scrape::{Scrape, VALIDATE, handled_series, rpc_labels},
};

/// What was never counted has no series, or every server would tell thousands of zeros.
#[tokio::test]
async fn idle_server_exports_few_series() {
    let database = TestDatabase::embedded();
    let service = TestService::start(&database).await;
    let scrape = Scrape::collect(&service).await;
    println!("{} series of an idle server", scrape.series());
    assert!(scrape.series() <= 400, "{}:\n{}", scrape.series(), scrape.text);
    // What alerts compare is there before it grows.
    for series in [
        &*handled_series(VALIDATE, "Unavailable"),
        "tenant_auth_verdicts_total{verdict=\"unknown\"}",
        "tenant_auth_undecided_total{reason=\"unreachable\"}",
        "tenant_auth_database_failures_total{operation=\"read\",kind=\"denied\"}",
        "tenant_auth_cache_evictions_total{cache=\"keys\",kind=\"record\"}",
        "tenant_auth_database_breaker_opened_total{circuit=\"lookups\"}",
        "tenant_auth_tls_handshakes_failed_total{reason=\"error\"}",
        "tenant_auth_unreadable_records_total{table=\"api_keys\"}",
        "tenant_auth_otlp_spans_total{outcome=\"dropped\"}",
        "tenant_auth_limit_decisions_total{result=\"shadow_exceeded\",decided_by=\"lease\"}",
        "tenant_auth_limit_decisions_total{result=\"undecided\",decided_by=\"local_share\"}",
    ] {
        assert_eq!(scrape.value(series), 0.0, "{series}");
    }
    let issue = "tenantauth.v1.AdminService/IssueKey";
    assert!(!scrape.text.contains("IssueKey"), "nobody has called it");
    let (_, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    let scrape = Scrape::collect(&service).await;
    assert_eq!(scrape.value(&handled_series(issue, "Internal")), 0.0, "from the first call on");
    for messages in ["started", "msg_received", "msg_sent"] {
        let series = format!("grpc_server_{messages}_total{{{}}}", rpc_labels(issue));
        assert_eq!(scrape.value(&series), 1.0, "{series}");
    }
}
