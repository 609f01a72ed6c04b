//! Repair of totals that differ from their events, without losing concurrent usage.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1;
use tenant_auth_svc::{
    database::{client::DatabaseClient, sql::SqlStore},
    domain::{
        audit::Actor,
        clock::{ManualClock, SystemClock, UnixMillis},
        id::TenantId,
        key::Peppers,
        store::{Change, Lane},
        usage::{
            ComparisonCursor, ComparisonPage, Hour, RepairedTotal, TotalDifference, UsageMetric,
            UsageStore as _,
        },
    },
};
use tenant_auth_testkit::Fault;

use crate::harness::{
    NOW, TestDatabase, TestService, call,
    program::{CommandResult, run_reconcile},
    scrape::Scrape,
    usage::{record_usage, usage_event, usage_total},
};

const EVENT_RETENTION: Duration = Duration::from_secs(35 * 86_400);

fn usage_store(database: &TestDatabase) -> SqlStore<DatabaseClient> {
    SqlStore::new(database.client(), Arc::new(Peppers::default()))
}

async fn compare_totals(
    database: &TestDatabase,
    tenant: &str,
    kept: Duration,
    limit: usize,
) -> Vec<ComparisonPage> {
    let (store, tenant) = (usage_store(database), TenantId::parse(tenant).unwrap());
    let mut from = ComparisonCursor { hour: Hour::floor(UnixMillis(0)), after: None };
    let mut pages = Vec::new();
    loop {
        let hours = (&from, Hour::ceil(UnixMillis::MAX));
        let page = store.compare_usage(call(Lane::Maintenance), &tenant, hours, kept, limit).await.unwrap();
        let next = page.next.clone();
        pages.push(page);
        match next {
            Some(next) => from = next,
            None => return pages,
        }
    }
}

async fn differences(database: &TestDatabase, tenant: &str, kept: Duration) -> Vec<TotalDifference> {
    compare_totals(database, tenant, kept, 1_000)
        .await
        .into_iter()
        .flat_map(|page| page.differences)
        .collect()
}

async fn repair_totals(
    database: &TestDatabase,
    found: &[TotalDifference],
    kept: Duration,
    request_id: &str,
) -> Vec<RepairedTotal> {
    let actor = Actor { caller: "test".to_owned(), request_id: request_id.to_owned() };
    let change = Change { actor, at: NOW };
    usage_store(database).repair_usage(call(Lane::Admin), found, kept, &change).await.unwrap()
}

async fn repair_audit_events(service: &TestService) -> Vec<v1::AuditEvent> {
    let request = v1::ListAuditEventsRequest::default();
    let all = service.admin().list_audit_events(request).await.unwrap().into_inner().events;
    all.into_iter().filter(|event| event.action == "usage.repair").collect()
}

#[tokio::test]
async fn repair_corrects_totals_and_audits_before_and_after() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start_with(database.settings(), SystemClock::shared()).await;
    let (tenant, other) = (service.create_tenant("Acme").await, service.create_tenant("Other").await);
    // One timestamp, so that all events are in one hour.
    let at = Some(SystemClock::shared().now());
    for number in 0..5 {
        let events = vec![
            usage_event(&tenant, "calls", 2, at),
            usage_event(&other, "tokens", 7, at),
            usage_event(&tenant, "right", 1, at),
        ];
        record_usage(&service, &format!("r-{number}"), events).await.unwrap();
    }
    let server = database.server();
    let damage = || {
        server.execute("UPDATE usage_totals SET quantity = quantity + 5 WHERE metric = 'calls'").unwrap();
        server.execute("DELETE FROM usage_totals WHERE metric = 'tokens'").unwrap();
    };
    damage();
    let dry: CommandResult = run_reconcile(&database, &["--dry-run"]).await;
    assert!(dry.code == 1 && dry.stderr.contains("--repair"), "{}", dry.stderr);
    assert_eq!(usage_total(&service, &tenant, "calls").await, 15, "a dry run changes nothing");
    let both = run_reconcile(&database, &["--dry-run", "--repair"]).await;
    assert_eq!(both.code, 2, "{}", both.stderr);

    let one = run_reconcile(&database, &["--repair", "--tenant", &tenant]).await;
    assert_eq!((one.code, one.stderr.as_str()), (0, ""), "{}", one.stdout);
    assert!(one.stdout.starts_with(&format!("{tenant} calls 20")), "{}", one.stdout);
    assert!(one.stdout.contains(": the total was 15 and is now 10\n"), "{}", one.stdout);
    assert!(one.stdout.contains("1 differed, 1 were repaired"), "{}", one.stdout);
    assert_eq!(usage_total(&service, &other, "tokens").await, 0, "the other tenant is not repaired");
    let all = run_reconcile(&database, &["--repair"]).await;
    assert!(all.code == 0 && all.stdout.contains(": the total was 0 and is now 35\n"), "{}", all.stdout);
    assert_eq!(usage_total(&service, &tenant, "calls").await, 10);
    assert_eq!(usage_total(&service, &other, "tokens").await, 35);
    assert_eq!(run_reconcile(&database, &[]).await.code, 0);

    let audited = repair_audit_events(&service).await;
    assert_eq!(audited.len(), 2, "one for each total: {audited:?}");
    assert!(audited.iter().all(|event| event.caller == "tenant-auth-svc reconcile"), "{audited:?}");
    assert_eq!((&audited[1].tenant_id, &audited[0].tenant_id), (&tenant, &other));
    assert!(audited[1].detail.contains(r#""metric":"calls""#), "{audited:?}");
    assert!(audited[1].detail.contains(r#""before":15,"after":10"#), "{audited:?}");
}

#[tokio::test]
async fn usage_recorded_during_repair_is_kept() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let at = Some(SystemClock::shared().now());
    record_usage(
        &service,
        "r-1",
        vec![usage_event(&tenant, "calls", 3, at), usage_event(&tenant, "tokens", 4, at)],
    )
    .await
    .unwrap();
    let server = database.server();
    server.execute("UPDATE usage_totals SET quantity = quantity * 10").unwrap();
    let found = differences(&database, &tenant, EVENT_RETENTION).await;
    assert_eq!(found.iter().map(|one| (one.total, one.events)).collect::<Vec<_>>(), [(30, 3), (40, 4)]);
    // Meanwhile one total receives more usage, and another process repairs the other one.
    record_usage(&service, "r-2", vec![usage_event(&tenant, "calls", 5, at)]).await.unwrap();
    server.execute("UPDATE usage_totals SET quantity = 4 WHERE metric = 'tokens'").unwrap();
    let repaired = repair_totals(&database, &found, EVENT_RETENTION, "repair-1").await;
    assert_eq!(repaired.iter().map(|one| (one.before, one.after)).collect::<Vec<_>>(), [(35, 8)]);
    assert_eq!(usage_total(&service, &tenant, "calls").await, 8);
    assert_eq!(usage_total(&service, &tenant, "tokens").await, 4);
}

#[tokio::test]
async fn repeated_repair_is_not_applied_twice() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let at = Some(SystemClock::shared().now());
    record_usage(&service, "r-1", vec![usage_event(&tenant, "calls", 3, at)]).await.unwrap();
    let server = database.server();
    server.execute("UPDATE usage_totals SET quantity = 30").unwrap();
    let found = differences(&database, &tenant, EVENT_RETENTION).await;
    // The response to the commit is lost, so the client sends the transaction again.
    server.faults().set_where("INSERT INTO usage_totals", 1, Fault::ResetAfterCommit);
    let first = repair_totals(&database, &found, EVENT_RETENTION, "repair-1").await;
    assert_eq!(first.iter().map(|one| (one.before, one.after)).collect::<Vec<_>>(), [(30, 3)]);
    record_usage(&service, "r-2", vec![usage_event(&tenant, "calls", 5, at)]).await.unwrap();
    assert_eq!(
        repair_totals(&database, &found, EVENT_RETENTION, "repair-1").await,
        first,
        "reported again, not repaired again"
    );
    assert_eq!(usage_total(&service, &tenant, "calls").await, 8);
    assert_eq!(repair_audit_events(&service).await.len(), 1);
}

#[tokio::test]
async fn repair_does_not_lower_totals_of_pruned_events() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = TestService::start_at(&database, &clock).await;
    let tenant = service.create_tenant("Acme").await;
    record_usage(&service, "old", vec![usage_event(&tenant, "calls", 3, None)]).await.unwrap();
    clock.advance(Duration::from_secs(30 * 86_400));
    record_usage(&service, "new", vec![usage_event(&tenant, "calls", 4, None)]).await.unwrap();
    clock.advance(Duration::from_secs(6 * 86_400));
    // The old request and its events are deleted.
    service.running.sweep_usage().await.unwrap();
    let longer = Duration::from_secs(400 * 86_400);
    for kept in [EVENT_RETENTION, longer] {
        assert_eq!(differences(&database, &tenant, kept).await, [], "{kept:?}");
    }
    // As if the difference had been read before the sweep: the database itself rejects the repair.
    let stale = TotalDifference {
        tenant_id: TenantId::parse(&tenant).unwrap(),
        hour: Hour::floor(NOW),
        metric: UsageMetric::parse("calls").unwrap(),
        total: 3,
        events: 0,
        rows: 0,
    };
    for kept in [EVENT_RETENTION, longer] {
        assert_eq!(repair_totals(&database, std::slice::from_ref(&stale), kept, "repair-1").await, []);
    }
    assert_eq!(usage_total(&service, &tenant, "calls").await, 7);
    // Within the retention of events, a wrong total is found and repaired.
    let hour = Hour::floor(NOW.plus(Duration::from_secs(30 * 86_400) + Duration::from_secs(2 * 3_600)));
    record_usage(&service, "later", vec![usage_event(&tenant, "calls", 2, Some(hour.start()))])
        .await
        .unwrap();
    database
        .server()
        .execute(&format!("UPDATE usage_totals SET quantity = 9 WHERE hour = {}", hour.start().0))
        .unwrap();
    let found = differences(&database, &tenant, longer).await;
    assert_eq!(found.iter().map(|one| (one.hour, one.events)).collect::<Vec<_>>(), [(hour, 2)]);
    let ran = run_reconcile(&database, &["--from", "2026-01-01T00:00:00Z", "--repair"]).await;
    assert!(ran.code == 2 && ran.stderr.contains("--from is before 20"), "{}", ran.stderr);
}

#[tokio::test]
async fn total_comparison_pages_without_gaps() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let now = SystemClock::shared().now();
    let day = 86_400_000;
    for number in 0..7_i64 {
        // Two days apart, and the last three in one hour.
        let at = UnixMillis(now.0 - 2 * day * number.min(4));
        let name = format!("m{number}");
        record_usage(&service, &format!("r-{number}"), vec![usage_event(&tenant, &name, 1, Some(at))])
            .await
            .unwrap();
    }
    database.server().execute("UPDATE usage_totals SET quantity = 2").unwrap();
    let pages = compare_totals(&database, &tenant, EVENT_RETENTION, 2).await;
    let found: Vec<_> =
        pages.iter().flat_map(|page| &page.differences).map(|one| one.metric.as_str()).collect();
    assert_eq!(found, ["m4", "m5", "m6", "m3", "m2", "m1", "m0"]);
    assert!(pages.iter().all(|page| page.differences.len() <= 2), "{pages:?}");
    let first = database.server().requests_with("AS found ON TRUE");
    let ran = run_reconcile(&database, &["--repair"]).await;
    assert!(ran.code == 0 && ran.stdout.contains("7 were repaired"), "{} {}", ran.stdout, ran.stderr);
    assert!(database.server().requests_with("AS found ON TRUE") - first <= 8, "empty days are skipped");
}

#[tokio::test]
async fn differing_totals_are_exported_as_metric() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    record_usage(&service, "r-1", vec![usage_event(&tenant, "calls", 3, None)]).await.unwrap();
    let before = Scrape::collect(&service).await;
    before.assert_value("tenant_auth_usage_last_reconciled_timestamp_seconds", 0.0);
    before.assert_value("tenant_auth_usage_reconcile_interval_seconds", 0.0);
    database.server().execute("UPDATE usage_totals SET quantity = 30").unwrap();
    service.running.reconcile_usage().await.unwrap();
    let scraped = Scrape::collect(&service).await;
    scraped.assert_value("tenant_auth_usage_totals_mismatched", 1.0);
    assert!(scraped.value("tenant_auth_usage_last_reconciled_timestamp_seconds") > 1.7e9);
    assert_eq!(run_reconcile(&database, &["--repair"]).await.code, 0);
    service.running.reconcile_usage().await.unwrap();
    Scrape::collect(&service).await.assert_value("tenant_auth_usage_totals_mismatched", 0.0);
}

#[tokio::test]
async fn failed_repair_is_reported_and_can_be_rerun() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    record_usage(&service, "r-1", vec![usage_event(&tenant, "calls", 3, None)]).await.unwrap();
    database.server().execute("UPDATE usage_totals SET quantity = 30").unwrap();
    database.server().faults().set_writes(Fault::blocked());
    let ran = run_reconcile(&database, &["--repair"]).await;
    assert!(ran.code == 1 && ran.stderr.contains("error: "), "{} {}", ran.stdout, ran.stderr);
    assert_eq!(usage_total(&service, &tenant, "calls").await, 30);
    database.server().faults().clear();
    assert_eq!(run_reconcile(&database, &["--repair"]).await.code, 0);
    assert_eq!(usage_total(&service, &tenant, "calls").await, 3);
}
