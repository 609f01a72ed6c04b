//! `grpc.health.v1`: what those see who watch the three names from the start to the end.

use std::time::Duration;

use tenant_auth_svc::domain::clock::SystemClock;
use tenant_auth_testkit::Fault;
use tonic::Streaming;
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus::{self, NotServing, Serving},
    health_client::HealthClient,
};

use crate::harness::{Database, Service, outcome, strange_key};

/// Those who watch a name.
struct Watch(Streaming<HealthCheckResponse>);

impl Watch {
    async fn begin(service: &Service, name: &str) -> Self {
        let request = HealthCheckRequest { service: name.to_owned() };
        Self(HealthClient::new(service.channel.clone()).watch(request).await.unwrap().into_inner())
    }

    /// What is told next; `None` at the end.
    async fn next(&mut self) -> Option<ServingStatus> {
        let next = tokio::time::timeout(Duration::from_secs(30), self.0.message()).await;
        next.expect("something has to be told").unwrap().map(|told| told.status())
    }
}

#[tokio::test]
async fn whoever_watches_sees_every_change_and_the_end() {
    let mut database = Database::test_server().await;
    database.server_mut().stop().await;
    let mut service = Service::start_unready(database.settings(), SystemClock::shared()).await;
    let mut process = Watch::begin(&service, "").await;
    let mut ready = Watch::begin(&service, "tenantauth.v1.ValidationService").await;
    let mut works = Watch::begin(&service, "tenantauth.Database").await;
    assert_eq!(process.next().await, Some(Serving), "the process is alive");
    assert_eq!(ready.next().await, Some(NotServing));
    assert_eq!(works.next().await, Some(NotServing));

    database.server_mut().start_again().unwrap();
    service.running.ready().await.unwrap();
    // It calls the database too, and its calls must not be among those that are told about.
    service.running.read_ahead().await;
    assert_eq!(ready.next().await, Some(Serving));
    while works.next().await != Some(Serving) {}

    // Two kinds of failure are one change.
    for fault in [Fault::service_unavailable(), Fault::unauthorized()] {
        database.server().faults().set(fault);
        assert_eq!(outcome(&service.validate(&strange_key()).await), "Unavailable");
    }
    assert_eq!(works.next().await, Some(NotServing));
    database.server().faults().clear();
    service.validate(&strange_key()).await.unwrap();
    assert_eq!(works.next().await, Some(Serving));

    // What is watched does not hold the end up: without its end, the drain would take all its time.
    let ending = tokio::spawn(service.running.stop());
    for watch in [&mut process, &mut ready, &mut works] {
        assert_eq!(watch.next().await, Some(NotServing), "and nothing in between");
        assert_eq!(watch.next().await, None);
    }
    ending.await.unwrap();
}
