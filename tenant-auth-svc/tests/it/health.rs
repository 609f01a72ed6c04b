//! `grpc.health.v1`: the statuses that watchers of the three names receive from startup to shutdown.

use std::time::Duration;

use tenant_auth_svc::domain::clock::SystemClock;
use tenant_auth_testkit::Fault;
use tonic::Streaming;
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus::{self, NotServing, Serving},
    health_client::HealthClient,
};

use crate::harness::{TestDatabase, TestService, outcome, unknown_key};

/// A watch on a health name.
struct HealthWatch(Streaming<HealthCheckResponse>);

impl HealthWatch {
    async fn start(service: &TestService, name: &str) -> Self {
        let request = HealthCheckRequest { service: name.to_owned() };
        Self(HealthClient::new(service.channel.clone()).watch(request).await.unwrap().into_inner())
    }

    /// Returns the next status; `None` at the end.
    async fn next(&mut self) -> Option<ServingStatus> {
        let next = tokio::time::timeout(Duration::from_secs(30), self.0.message()).await;
        next.expect("a status must arrive in time").unwrap().map(|response| response.status())
    }
}

#[tokio::test]
async fn health_watch_reports_every_change_and_shutdown() {
    let mut database = TestDatabase::test_server().await;
    database.server_mut().stop().await;
    let mut service = TestService::start_unready(database.settings(), SystemClock::shared()).await;
    let mut process = HealthWatch::start(&service, "").await;
    let mut ready = HealthWatch::start(&service, "tenantauth.v1.ValidationService").await;
    let mut works = HealthWatch::start(&service, "tenantauth.Database").await;
    assert_eq!(process.next().await, Some(Serving), "the process is alive");
    assert_eq!(ready.next().await, Some(NotServing));
    assert_eq!(works.next().await, Some(NotServing));

    database.server_mut().start_again().unwrap();
    service.running.wait_until_ready().await.unwrap();
    // Preloading calls the database too, and its calls must not be among those that change the status.
    service.running.wait_until_preloaded().await;
    assert_eq!(ready.next().await, Some(Serving));
    while works.next().await != Some(Serving) {}

    // Two kinds of failure in a row are one change.
    for fault in [Fault::service_unavailable(), Fault::unauthorized()] {
        database.server().faults().set(fault);
        assert_eq!(outcome(&service.validate(&unknown_key()).await), "Unavailable");
    }
    assert_eq!(works.next().await, Some(NotServing));
    database.server().faults().clear();
    service.validate(&unknown_key()).await.unwrap();
    assert_eq!(works.next().await, Some(Serving));

    // A watch does not delay shutdown: if it stayed open, the drain would take its full time.
    let ending = tokio::spawn(service.running.stop());
    for watch in [&mut process, &mut ready, &mut works] {
        assert_eq!(watch.next().await, Some(NotServing), "no status in between");
        assert_eq!(watch.next().await, None);
    }
    ending.await.unwrap();
}
