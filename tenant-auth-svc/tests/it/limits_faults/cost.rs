//! What decisions cost the database.

use std::time::Duration;

use tenant_auth_proto::v1::{OutagePolicy, Verdict};
use tenant_auth_svc::domain::clock::SystemClock;

use super::{EXCHANGE, LimitedTenant};
use crate::harness::{
    TestDatabase, TestService,
    limits::{consume, limit_of, per_day, store_limit},
};

#[tokio::test]
async fn first_request_waits_for_one_commit_and_the_next_thousand_need_none() {
    let limited = LimitedTenant::start(per_day(1_000_000), OutagePolicy::Closed).await;
    let before = limited.exchanges();
    assert_eq!(limited.consume(1).await.unwrap().verdict(), Verdict::Valid);
    assert_eq!(limited.exchanges() - before, 1);
    for _ in 0..1_000 {
        assert_eq!(limited.consume(1).await.unwrap().verdict(), Verdict::Valid);
    }
    assert_eq!(limited.exchanges() - before, 1);
    assert_eq!(limited.used_after_stop().await, 1_001);
}

#[tokio::test]
async fn idle_service_makes_no_transactions_about_limits() {
    let limited = LimitedTenant::start(per_day(1_000_000), OutagePolicy::Closed).await;
    assert_eq!(limited.exchanges(), 0, "nobody has used a limit");
    limited.consume(1).await.unwrap();
    limited.clock.advance(Duration::from_secs(11));
    limited.until_state(|state| state.used == 1).await;
    let reported = limited.exchanges();
    assert_eq!(reported, 2, "one lease, and one report of what was used");
    limited.clock.advance(Duration::from_secs(60));
    // Limits in use are looked at four times a second.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(limited.exchanges(), reported);
}

/// The rows of the tables of limits, and of their change log.
const COUNTED_TABLES: [&str; 6] =
    ["limit_counters", "limit_leases", "limit_reservations", "limit_ids", "limit_log", "changes"];

#[tokio::test]
async fn thousand_decisions_write_few_rows() {
    const DECISIONS: u64 = 3_000;
    let database = TestDatabase::test_server().await;
    let service = TestService::start_with(database.settings(), SystemClock::shared()).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, _) = service.issue_key(&tenant, &[]).await;
    store_limit(&service, limit_of(&tenant, "limit", per_day(1_000_000))).await;
    service.poll_feed().await;
    let server = database.server();
    server.execute("CREATE TABLE row_writes (count INTEGER)").unwrap();
    server.execute("INSERT INTO row_writes VALUES (0)").unwrap();
    for table in COUNTED_TABLES {
        for change in ["INSERT", "UPDATE", "DELETE"] {
            let trigger = format!(
                "CREATE TRIGGER row_writes_{table}_{change} AFTER {change} ON {table} BEGIN \
                 UPDATE row_writes SET count = count + 1; END"
            );
            server.execute(&trigger).unwrap();
        }
    }
    for _ in 0..DECISIONS {
        assert_eq!(consume(&service, &key, 1).await.unwrap().verdict(), Verdict::Valid);
    }
    let exchanges = server.requests_with(EXCHANGE);
    let rows = server.query("SELECT count FROM row_writes").unwrap();
    let rows: u64 = rows[0][0]["value"].as_str().unwrap().parse().unwrap();
    println!(
        "{DECISIONS} decisions: {exchanges} transactions, {rows} rows written, {:.1} rows per 1,000 decisions",
        rows as f64 * 1_000.0 / DECISIONS as f64
    );
    // A commit per decision would write at least as many rows as there are decisions.
    assert!(rows * 10 < DECISIONS, "{rows} rows");
    assert!(exchanges * 10 < DECISIONS, "{exchanges} transactions");
}
