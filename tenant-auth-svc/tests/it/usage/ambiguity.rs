//! Lost responses, cancelled callers and racing replicas: each request is counted once.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1;
use tenant_auth_testkit::Fault;
use tonic::{Code, Request};

use crate::harness::{
    TestDatabase, TestService,
    usage::{
        USAGE_WRITE, record_and_cancel, record_usage, until_waiting, usage_client, usage_event, usage_total,
    },
};

#[tokio::test]
async fn lost_commit_response_is_hidden_from_usage_caller() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    for (number, fault) in
        [Fault::ResetAfterCommit, Fault::ResetMidBody, Fault::ResetBeforeExecute, Fault::TruncatedJson]
            .into_iter()
            .enumerate()
    {
        database.server().faults().set_where(USAGE_WRITE, 1, fault.clone());
        let events = vec![usage_event(&tenant, "calls", 1, None), usage_event("nobody", "calls", 1, None)];
        let response = record_usage(&service, &format!("r-{number}"), events).await.unwrap();
        assert_eq!((response.accepted, response.rejected.len()), (1, 1), "{fault:?}");
        assert!(!response.already_recorded, "{fault:?}: this call recorded the usage");
    }
    assert_eq!(usage_total(&service, &tenant, "calls").await, 4);
}

#[tokio::test]
async fn failed_commit_fails_requests_and_retry_counts_once() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let mut counted = 0;
    for (number, (fault, committed)) in [
        (Fault::ResetAfterCommit, true),
        (Fault::ResetMidBody, true),
        (Fault::service_unavailable(), false),
        (Fault::blocked(), false),
        (Fault::MissingRows, true),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("r-{number}");
        // Both attempts fail.
        database.server().faults().set_where(USAGE_WRITE, 2, fault.clone());
        let failed =
            record_usage(&service, &id, vec![usage_event(&tenant, "calls", 1, None)]).await.unwrap_err();
        assert_eq!(failed.code(), Code::Unavailable, "{fault:?}");
        database.server().faults().clear();
        counted += 1;
        let again = record_usage(&service, &id, vec![usage_event(&tenant, "calls", 1, None)]).await.unwrap();
        assert_eq!((again.accepted, again.already_recorded), (1, committed), "{fault:?}");
        assert_eq!(usage_total(&service, &tenant, "calls").await, counted, "{fault:?}");
    }
}

#[tokio::test]
async fn retry_after_cancelled_usage_request_finds_it_recorded() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    for (id, fault) in [("before", Fault::Hang), ("after", Fault::HangAfterExecute)] {
        database.server().faults().set_where(USAGE_WRITE, 1, fault);
        record_and_cancel(&service, id, usage_event(&tenant, id, 1, None), 1).await;
        database.server().faults().clear();
        until_waiting(&service, 0).await;
        let again = record_usage(&service, id, vec![usage_event(&tenant, id, 1, None)]).await.unwrap();
        assert_eq!((again.accepted, again.already_recorded), (1, true));
        assert_eq!(usage_total(&service, &tenant, id).await, 1);
    }
}

#[tokio::test]
async fn usage_deadline_ends_the_callers_wait() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    database.server().faults().set_where(USAGE_WRITE, u64::MAX, Fault::Hang);
    let events = vec![usage_event(&tenant, "calls", 1, None)];
    let mut request =
        Request::new(v1::RecordUsageRequest { request_id: "r".to_owned(), events: events.clone() });
    request.set_timeout(Duration::from_millis(100));
    let ended = usage_client(&service).record_usage(request).await.unwrap_err();
    // From the service or from the transport.
    let codes = [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled];
    assert!(codes.contains(&ended.code()), "{ended:?}");
    database.server().faults().clear();
    assert_eq!(record_usage(&service, "r", events).await.unwrap().accepted, 1);
    assert_eq!(usage_total(&service, &tenant, "calls").await, 1);
}

#[tokio::test]
async fn racing_replicas_count_usage_request_once() {
    let database = TestDatabase::test_server().await;
    let replicas =
        [Arc::new(TestService::start(&database).await), Arc::new(TestService::start(&database).await)];
    let tenant = replicas[0].create_tenant("Acme").await;
    for round in 0..20 {
        // Twice on each replica.
        let tasks: Vec<_> = (0..4)
            .map(|task| {
                let (service, tenant) = (Arc::clone(&replicas[task % 2]), tenant.clone());
                tokio::spawn(async move {
                    record_usage(
                        &service,
                        &format!("r-{round}"),
                        vec![usage_event(&tenant, "calls", 1, None)],
                    )
                    .await
                })
            })
            .collect();
        let mut first = 0;
        for task in tasks {
            let response = task.await.unwrap().unwrap();
            assert_eq!(response.accepted, 1);
            first += usize::from(!response.already_recorded);
        }
        assert_eq!(first, 1);
    }
    assert_eq!(usage_total(&replicas[1], &tenant, "calls").await, 20);
}
