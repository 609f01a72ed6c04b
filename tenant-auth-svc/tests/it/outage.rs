//! An outage of the database, and its end.

use std::time::Duration;

use tenant_auth_proto::v1::{Source, Verdict};
use tenant_auth_svc::domain::clock::{ManualClock, SharedClock, SystemClock};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

use crate::harness::{NOW, TestDatabase, TestService, outcome, unknown_key};

async fn health(service: &TestService, name: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: name.to_owned() };
    HealthClient::new(service.channel.clone()).check(request).await.unwrap().into_inner().status()
}

/// Waits for a status of a health name with a watch instead of polling.
async fn until_health(service: &TestService, name: &str, wanted: ServingStatus) {
    let request = HealthCheckRequest { service: name.to_owned() };
    let mut changes = HealthClient::new(service.channel.clone()).watch(request).await.unwrap().into_inner();
    while changes.message().await.unwrap().unwrap().status() != wanted {}
}

const VALIDATION_HEALTH: &str = "tenantauth.v1.ValidationService";
const DATABASE_HEALTH: &str = "tenantauth.Database";

#[tokio::test]
async fn killed_database_is_unavailable_and_known_keys_stay_valid() {
    let mut database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = TestService::start_with(database.settings(), clock.clone() as SharedClock).await;
    let (known, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    service.validate(&known).await.unwrap();
    assert_eq!(health(&service, DATABASE_HEALTH).await, ServingStatus::Serving);

    database.server_mut().stop().await;
    assert_eq!(service.validate(&known).await.unwrap().verdict(), Verdict::Valid, "answered from the cache");
    let answer = service.validate(&unknown_key()).await;
    assert_eq!(outcome(&answer), "Unavailable");
    let details = answer.unwrap_err().get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "DATABASE_UNREACHABLE");
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    until_health(&service, DATABASE_HEALTH, ServingStatus::NotServing).await;
    assert_eq!(
        health(&service, VALIDATION_HEALTH).await,
        ServingStatus::Serving,
        "otherwise every replica would be removed at once"
    );

    // Past its fresh time, a known key is still answered, with the age of the answer, until the grace ends.
    clock.advance(Duration::from_secs(14_399));
    let stale = service.validate(&known).await.unwrap();
    assert_eq!(stale.verdict(), Verdict::Valid);
    let provenance = stale.provenance.unwrap();
    assert_eq!(provenance.source(), Source::Stale);
    assert_eq!(provenance.age.unwrap().seconds, 14_399);
    clock.advance(Duration::from_secs(1));
    assert_eq!(outcome(&service.validate(&known).await), "Unavailable", "past the grace");

    database.server_mut().start_again().unwrap();
    assert_eq!(service.validate(&known).await.unwrap().verdict(), Verdict::Valid);
    assert_eq!(service.validate(&unknown_key()).await.unwrap().verdict(), Verdict::Unknown);
    until_health(&service, DATABASE_HEALTH, ServingStatus::Serving).await;
}

#[tokio::test]
async fn database_restart_fails_no_request() {
    let mut database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    for _ in 0..3 {
        database.server_mut().stop().await;
        database.server_mut().start_again().unwrap();
        assert_eq!(service.validate(&unknown_key()).await.unwrap().verdict(), Verdict::Unknown);
    }
    assert_eq!(service.validate(&key).await.unwrap().verdict(), Verdict::Valid);
}

#[tokio::test]
async fn service_waits_for_late_database() {
    let mut database = TestDatabase::test_server().await;
    database.server_mut().stop().await;
    let mut service = TestService::start_unready(database.settings(), SystemClock::shared()).await;
    assert_eq!(health(&service, "").await, ServingStatus::Serving, "the process is alive");
    assert_eq!(health(&service, VALIDATION_HEALTH).await, ServingStatus::NotServing);
    assert_eq!(health(&service, DATABASE_HEALTH).await, ServingStatus::NotServing);
    assert_eq!(outcome(&service.validate(&unknown_key()).await), "Unavailable");

    database.server_mut().start_again().unwrap();
    service.running.wait_until_ready().await.unwrap();
    assert_eq!(health(&service, VALIDATION_HEALTH).await, ServingStatus::Serving);
    assert_eq!(service.validate(&unknown_key()).await.unwrap().verdict(), Verdict::Unknown);
}
