//! Retention of events, and the check that totals are the sums of their events.

use std::time::Duration;

use tenant_auth_svc::domain::clock::{ManualClock, SystemClock};

use crate::harness::{
    NOW, TestDatabase, TestService,
    program::run_reconcile,
    usage::{record_usage, usage_event, usage_total},
};

#[tokio::test]
async fn usage_retention_deletes_events_and_keeps_totals() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = TestService::start_at(&database, &clock).await;
    let tenant = service.create_tenant("Acme").await;
    // More than one batch deletes.
    let server = database.server();
    for number in 0..3 {
        let events = (0..500).map(|n| usage_event(&tenant, &format!("m{n}"), 1, None)).collect();
        record_usage(&service, &format!("old-{number}"), events).await.unwrap();
    }
    clock.advance(Duration::from_secs(34 * 86_400));
    record_usage(&service, "new", vec![usage_event(&tenant, "m0", 1, None)]).await.unwrap();
    let left = || {
        let count = |table: &str| {
            server.query(&format!("SELECT count(*) FROM {table}")).unwrap()[0][0]["value"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        [count("usage_requests"), count("usage_events"), count("usage_totals")]
    };
    service.running.sweep_usage().await.unwrap();
    assert_eq!(left(), ["4", "1501", "501"], "all rows are younger than 35 days");

    clock.advance(Duration::from_secs(2 * 86_400));
    let deletions =
        || ["requests", "events"].map(|of| server.requests_with(&format!("DELETE FROM usage_{of}")));
    let before = deletions();
    service.running.sweep_usage().await.unwrap();
    assert_eq!(left(), ["1", "1", "501"]);
    let after = deletions();
    assert_eq!([after[0] - before[0], after[1] - before[1]], [1, 2], "in batches of a thousand");
    assert_eq!(usage_total(&service, &tenant, "m0").await, 4);
}

#[tokio::test]
async fn reconcile_reports_every_total_differing_from_its_sum() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start_with(database.settings(), SystemClock::shared()).await;
    let (tenant, other) = (service.create_tenant("Acme").await, service.create_tenant("Other").await);
    // One timestamp, so that all events are in one hour.
    let at = Some(SystemClock::shared().now());
    for number in 0..5 {
        let events = vec![usage_event(&tenant, "calls", 2, at), usage_event(&other, "tokens", 7, at)];
        record_usage(&service, &format!("r-{number}"), events).await.unwrap();
    }
    let good = run_reconcile(&database, &[]).await;
    assert_eq!((good.code, good.stderr.as_str()), (0, ""), "{}", good.stdout);
    assert_eq!(good.stdout, "totals of 2 tenants compared: each equals the sum of its events\n");

    let server = database.server();
    server.execute("UPDATE usage_totals SET quantity = quantity + 1 WHERE metric = 'calls'").unwrap();
    server.execute("DELETE FROM usage_totals WHERE metric = 'tokens'").unwrap();
    let bad = run_reconcile(&database, &[]).await;
    assert_eq!(bad.code, 1);
    assert!(bad.stdout.contains(&format!("{tenant} calls 20")), "{}", bad.stdout);
    assert!(bad.stdout.contains(": the total is 0, the sum of its events is 35\n"), "{}", bad.stdout);
    assert!(bad.stderr.contains("2 differ"), "{}", bad.stderr);
    let one = run_reconcile(&database, &["--tenant", &tenant]).await;
    assert!(one.code == 1 && one.stdout.lines().count() == 1, "{}", one.stdout);
    let another_time = run_reconcile(&database, &["--to", "2026-01-01T00:00:00Z", "--tenant", &tenant]).await;
    assert_eq!(another_time.code, 0, "{}", another_time.stderr);
    let too_far_back = run_reconcile(&database, &["--from", "2020-01-01T00:00:00Z"]).await;
    assert_eq!(too_far_back.code, 2, "{}", too_far_back.stderr);
}
