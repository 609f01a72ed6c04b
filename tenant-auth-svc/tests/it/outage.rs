//! The database goes and comes back.

use std::time::Duration;

use tenant_auth_proto::v1::{Source, Verdict};
use tenant_auth_svc::domain::clock::{ManualClock, SharedClock, SystemClock};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

use crate::harness::{Database, NOW, Service, outcome, strange_key};

async fn health(service: &Service, name: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: name.to_owned() };
    HealthClient::new(service.channel.clone()).check(request).await.unwrap().into_inner().status()
}

/// Waits for a health name by watching it, not by asking again and again.
async fn becomes(service: &Service, name: &str, wanted: ServingStatus) {
    let request = HealthCheckRequest { service: name.to_owned() };
    let mut changes = HealthClient::new(service.channel.clone()).watch(request).await.unwrap().into_inner();
    while changes.message().await.unwrap().unwrap().status() != wanted {}
}

const READY: &str = "tenantauth.v1.ValidationService";
const DATABASE: &str = "tenantauth.Database";

#[tokio::test]
async fn a_killed_database_is_unavailable_and_what_is_known_goes_on() {
    let mut database = Database::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = Service::start_with(database.settings(), clock.clone() as SharedClock).await;
    let (known, _) = service.key(&service.tenant("Acme").await, &[]).await;
    service.validate(&known).await.unwrap();
    assert_eq!(health(&service, DATABASE).await, ServingStatus::Serving);

    database.server_mut().stop().await;
    assert_eq!(service.validate(&known).await.unwrap().verdict(), Verdict::Valid, "from memory");
    let answer = service.validate(&strange_key()).await;
    assert_eq!(outcome(&answer), "Unavailable");
    let details = answer.unwrap_err().get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "DATABASE_UNREACHABLE");
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    becomes(&service, DATABASE, ServingStatus::NotServing).await;
    assert_eq!(
        health(&service, READY).await,
        ServingStatus::Serving,
        "or every replica would be drained at once"
    );

    // Past its fresh time the known key is answered all the same, and says how old the answer is; until the grace ends.
    clock.advance(Duration::from_secs(14_399));
    let stale = service.validate(&known).await.unwrap();
    assert_eq!(stale.verdict(), Verdict::Valid);
    let provenance = stale.provenance.unwrap();
    assert_eq!(provenance.source(), Source::Stale);
    assert_eq!(provenance.age.unwrap().seconds, 14_399);
    clock.advance(Duration::from_secs(1));
    assert_eq!(outcome(&service.validate(&known).await), "Unavailable", "beyond the grace");

    database.server_mut().start_again().unwrap();
    assert_eq!(service.validate(&known).await.unwrap().verdict(), Verdict::Valid);
    assert_eq!(service.validate(&strange_key()).await.unwrap().verdict(), Verdict::Unknown);
    becomes(&service, DATABASE, ServingStatus::Serving).await;
}

#[tokio::test]
async fn a_restarted_database_is_not_noticed() {
    let mut database = Database::test_server().await;
    let service = Service::start(&database).await;
    let (key, _) = service.key(&service.tenant("Acme").await, &[]).await;
    for _ in 0..3 {
        database.server_mut().stop().await;
        database.server_mut().start_again().unwrap();
        assert_eq!(service.validate(&strange_key()).await.unwrap().verdict(), Verdict::Unknown);
    }
    assert_eq!(service.validate(&key).await.unwrap().verdict(), Verdict::Valid);
}

#[tokio::test]
async fn a_database_that_comes_late_is_waited_for() {
    let mut database = Database::test_server().await;
    database.server_mut().stop().await;
    let mut service = Service::start_unready(database.settings(), SystemClock::shared()).await;
    assert_eq!(health(&service, "").await, ServingStatus::Serving, "the process is alive");
    assert_eq!(health(&service, READY).await, ServingStatus::NotServing);
    assert_eq!(health(&service, DATABASE).await, ServingStatus::NotServing);
    assert_eq!(outcome(&service.validate(&strange_key()).await), "Unavailable");

    database.server_mut().start_again().unwrap();
    service.running.ready().await.unwrap();
    assert_eq!(health(&service, READY).await, ServingStatus::Serving);
    assert_eq!(service.validate(&strange_key()).await.unwrap().verdict(), Verdict::Unknown);
}
