//! Many requests in one transaction; a faulty request does not affect the others.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tenant_auth_svc::domain::{clock::SystemClock, key::PresentedKey, validate::KeyQuery, verdict::Verdict};
use tenant_auth_testkit::Fault;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{
    TestDatabase, TestService, error_reason, unknown_key,
    usage::{USAGE_WRITE, record_and_cancel, record_usage, until_waiting, usage_event, usage_total},
};

#[tokio::test]
async fn one_transaction_commits_all_waiting_usage() {
    let database = TestDatabase::test_server().await;
    let service = Arc::new(TestService::start(&database).await);
    let tenant = service.create_tenant("Acme").await;
    let server = database.server();
    let before = server.counters();
    server.faults().set_where(USAGE_WRITE, 1, Fault::Hang);
    let one = |number: usize| {
        let (service, tenant) = (Arc::clone(&service), tenant.clone());
        tokio::spawn(async move {
            record_usage(&service, &format!("r-{number}"), vec![usage_event(&tenant, "calls", 1, None)]).await
        })
    };
    let mut tasks = vec![one(0)];
    server.wait_for(|counters| counters.requests > before.requests).await;
    tasks.extend((1..=100).map(one));
    until_waiting(&service, 101).await;
    server.faults().clear();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap().accepted, 1);
    }
    let after = server.counters();
    assert_eq!(
        server.requests_with(USAGE_WRITE),
        2,
        "the transaction in flight, and one for a hundred requests"
    );
    assert!(after.connections - before.connections <= 1, "{before:?} {after:?}");
    assert_eq!(after.open_streams, 0);
    assert_eq!(usage_total(&service, &tenant, "calls").await, 101);
}

#[tokio::test]
async fn thousand_usage_events_write_few_rows() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let server = database.server();
    let before = server.requests_with(USAGE_WRITE);
    // One timestamp, so that all events are in one hour.
    let now = Some(SystemClock::shared().now());
    for half in ["a", "b"] {
        let events =
            (0..500).map(|n| usage_event(&tenant, if n % 2 == 0 { "calls" } else { "tokens" }, 1, now));
        assert_eq!(record_usage(&service, half, events.collect()).await.unwrap().accepted, 500);
    }
    assert_eq!(server.requests_with(USAGE_WRITE) - before, 2);
    let rows = |table: &str| {
        let count = server.query(&format!("SELECT count(*) FROM {table}")).unwrap();
        count[0][0]["value"].as_str().unwrap().parse::<u64>().unwrap()
    };
    let (requests, events, totals) = (rows("usage_requests"), rows("usage_events"), rows("usage_totals"));
    println!(
        "1,000 events in two requests: {requests} rows of requests, {events} of events, and as many updates of \
         {totals} totals"
    );
    assert_eq!((requests, events, totals), (2, 4, 2));
}

#[tokio::test]
async fn full_usage_queue_refuses_and_drops_nothing() {
    let database = TestDatabase::test_server().await;
    let settings = database.settings().with_flag("TENANT_AUTH_USAGE_QUEUE", Some("500".to_owned()));
    let service = Arc::new(TestService::start_with(settings, SystemClock::shared()).await);
    let tenant = service.create_tenant("Acme").await;
    database.server().faults().set_where(USAGE_WRITE, 1, Fault::Hang);
    let many = vec![usage_event(&tenant, "calls", 1, None); 500];
    let first = {
        let service = Arc::clone(&service);
        tokio::spawn(async move { record_usage(&service, "full", many).await })
    };
    until_waiting(&service, 500).await;
    let refused =
        record_usage(&service, "more", vec![usage_event(&tenant, "calls", 1, None)]).await.unwrap_err();
    assert_eq!((refused.code(), &*error_reason(&refused)), (Code::ResourceExhausted, "USAGE_QUEUE_FULL"));
    assert!(refused.get_error_details().retry_info().unwrap().retry_delay.is_some());
    database.server().faults().clear();
    assert_eq!(first.await.unwrap().unwrap().accepted, 500);
    let again = record_usage(&service, "more", vec![usage_event(&tenant, "calls", 1, None)]).await.unwrap();
    assert_eq!((again.accepted, again.already_recorded), (1, false), "nothing of it was recorded");
    assert_eq!(usage_total(&service, &tenant, "calls").await, 501);
}

#[tokio::test]
async fn uncommittable_usage_request_fails_alone() {
    let database = TestDatabase::test_server().await;
    let service = Arc::new(TestService::start(&database).await);
    let tenant = service.create_tenant("Acme").await;
    let poison = "CREATE TRIGGER poison BEFORE INSERT ON usage_events WHEN NEW.metric = 'poison' \
                  BEGIN SELECT RAISE(ABORT, 'no'); END";
    database.server().execute(poison).unwrap();
    database.server().faults().set_where(USAGE_WRITE, 1, Fault::Hang);
    let tasks: Vec<_> = (0..40)
        .map(|number| {
            let (service, tenant) = (Arc::clone(&service), tenant.clone());
            let metric = if number == 17 || number == 18 { "poison" } else { "calls" };
            tokio::spawn(async move {
                record_usage(&service, &format!("r-{number}"), vec![usage_event(&tenant, metric, 1, None)])
                    .await
            })
        })
        .collect();
    until_waiting(&service, 40).await;
    database.server().faults().clear();
    for (number, task) in tasks.into_iter().enumerate() {
        match task.await.unwrap() {
            Ok(response) => assert_eq!(response.accepted, 1),
            Err(status) => {
                assert!(number == 17 || number == 18, "{number} is innocent: {status:?}");
                assert_eq!(
                    (status.code(), &*error_reason(&status)),
                    (Code::Unavailable, "DATABASE_CONFLICT")
                );
            }
        }
    }
    assert_eq!(usage_total(&service, &tenant, "calls").await, 38);
    assert_eq!(usage_total(&service, &tenant, "poison").await, 0);
}

#[tokio::test]
async fn hanging_usage_writes_do_not_delay_validation() {
    let database = TestDatabase::test_server().await;
    let service = Arc::new(TestService::start(&database).await);
    let tenant = service.create_tenant("Acme").await;
    database.server().faults().set_where(USAGE_WRITE, u64::MAX, Fault::Hang);
    let events: Vec<_> =
        (0..100).map(|number| (format!("r-{number}"), usage_event(&tenant, "calls", 1, None))).collect();
    let tasks: Vec<_> = events
        .into_iter()
        .map(|(id, event)| {
            let service = Arc::clone(&service);
            tokio::spawn(async move { record_usage(&service, &id, vec![event]).await })
        })
        .collect();
    until_waiting(&service, 100).await;
    let before = database.server().counters();
    // Called within the process, so that a busy machine is done before the recordings time out.
    let (validator, deadline) = (service.running.validator(), Instant::now() + Duration::from_secs(30));
    for _ in 0..50 {
        let key = PresentedKey::new(unknown_key());
        let decision = validator.decide(&KeyQuery::new(key), deadline).await;
        assert_eq!(decision.unwrap().verdict, Verdict::Unknown);
    }
    let after = database.server().counters();
    assert!(after.requests - before.requests >= 50, "each key is looked up");
    assert!(
        after.max_open_requests <= 3,
        "usage has one transaction in flight, not {}",
        after.max_open_requests
    );
    database.server().faults().clear();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap().accepted, 1);
    }
}

#[tokio::test]
async fn shutdown_commits_waiting_usage() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    database.server().faults().set_where(USAGE_WRITE, 1, Fault::Hang);
    // Both callers have cancelled before the shutdown starts.
    for (id, waiting) in [("in-flight", 1), ("waiting", 2)] {
        record_and_cancel(&service, id, usage_event(&tenant, "calls", 1, None), waiting).await;
    }
    let stop = service.running.stop();
    let repair = async { database.server().faults().clear() };
    tokio::join!(stop, repair);
    let sum = database.server().query("SELECT sum(quantity) FROM usage_totals").unwrap();
    assert_eq!(sum[0][0]["value"], "2");
}
