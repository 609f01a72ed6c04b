//! Requests about usage.

use std::time::Duration;

use prost_types::Timestamp;
use tenant_auth_proto::v1::{self, usage_service_client::UsageServiceClient};
use tenant_auth_svc::domain::clock::UnixMillis;
use tonic::{Status, transport::Channel};

use super::TestService;

/// A part that occurs in every usage transaction and in no other.
pub(crate) const USAGE_WRITE: &str = "INSERT INTO usage_requests";

pub(crate) fn usage_client(service: &TestService) -> UsageServiceClient<Channel> {
    UsageServiceClient::new(service.channel.clone())
}

pub(crate) fn usage_event(
    tenant: &str,
    metric: &str,
    quantity: i64,
    at: Option<UnixMillis>,
) -> v1::UsageEvent {
    let occurred_at = at.map(|at| Timestamp { seconds: at.0.div_euclid(1_000), nanos: 0 });
    v1::UsageEvent { tenant_id: tenant.to_owned(), metric: metric.to_owned(), quantity, occurred_at }
}

pub(crate) async fn record_usage(
    service: &TestService,
    id: &str,
    events: Vec<v1::UsageEvent>,
) -> Result<v1::RecordUsageResponse, Status> {
    let request = v1::RecordUsageRequest { request_id: id.to_owned(), events };
    Ok(usage_client(service).record_usage(request).await?.into_inner())
}

/// Waits until this many events are queued to be committed.
pub(crate) async fn until_waiting(service: &TestService, wanted: usize) {
    let reached = service.running.usage_batcher_task().wait_until_queued(|waiting| waiting == wanted);
    tokio::time::timeout(Duration::from_secs(30), reached).await.expect("the events must be queued in time");
}

/// Records for a caller that cancels as soon as this many events are queued.
pub(crate) async fn record_and_cancel(
    service: &TestService,
    id: &str,
    event: v1::UsageEvent,
    waiting: usize,
) {
    tokio::select! {
        outcome = record_usage(service, id, vec![event]) => panic!("{outcome:?}"),
        () = until_waiting(service, waiting) => {}
    }
}

/// Returns the total of a metric for a tenant, as callers see it.
pub(crate) async fn usage_total(service: &TestService, tenant: &str, metric: &str) -> i64 {
    let request = v1::QueryUsageRequest {
        tenant_id: tenant.to_owned(),
        metric: metric.to_owned(),
        start_time: Some(Timestamp { seconds: 0, nanos: 0 }),
        end_time: Some(Timestamp { seconds: 250_000_000_000, nanos: 0 }),
        bucket: v1::UsageBucket::Month.into(),
        ..Default::default()
    };
    let response = usage_client(service).query_usage(request).await.unwrap().into_inner();
    response.sums.iter().map(|sum| sum.quantity).sum()
}
