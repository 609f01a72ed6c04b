//! A service with limits, and requests about them.

use std::time::Duration;

use tenant_auth_client::{Client, ConsumeRequest, PresentedKey, ReserveRequest, proto as v1};

use super::Service;

/// Returns a copy of a key.
pub(crate) fn copy(key: &PresentedKey) -> PresentedKey {
    PresentedKey::new(key.expose())
}

/// Starts a service with a key of `acme`, which may take this many requests in an hour.
pub(crate) async fn limited(requests: i64) -> (Service, PresentedKey) {
    let service = Service::start().await;
    let key = service.key().await;
    limit_requests(&service.client, requests).await;
    (service, key)
}

/// Sets how many requests `acme` may take in an hour.
pub(crate) async fn limit_requests(client: &Client, requests: i64) {
    let rule = v1::limit::Rule::Quota(v1::Quota {
        amount: requests,
        window: Some(v1::quota::Window::Rolling(prost_types::Duration { seconds: 3_600, nanos: 0 })),
    });
    set_limit(client, "hourly", "requests", rule).await;
}

pub(crate) async fn set_limit(client: &Client, name: &str, metric: &str, rule: v1::limit::Rule) {
    let limit = v1::Limit {
        subject: Some(acme()),
        name: name.to_owned(),
        metric: metric.to_owned(),
        rule: Some(rule),
        ..Default::default()
    };
    let request = v1::SetLimitRequest { limit: Some(limit), expected_version: None };
    let revision = client.admin().set_limit(request).await.unwrap().revision;
    assert!(client.wait_for_revision(revision, Duration::from_secs(10)).await.unwrap().applied);
}

pub(crate) fn acme() -> v1::LimitSubject {
    v1::LimitSubject { subject: Some(v1::limit_subject::Subject::TenantId("acme".to_owned())) }
}

pub(crate) fn consume(key: &PresentedKey, amount: i64) -> ConsumeRequest {
    ConsumeRequest::new(copy(key)).cost("requests", amount)
}

pub(crate) fn reserve(key: &PresentedKey, amount: i64) -> ReserveRequest {
    ReserveRequest::new(copy(key)).cost("requests", amount)
}

/// Takes everything that is left, one by one, and returns how much it was.
pub(crate) async fn take_rest(client: &Client, key: &PresentedKey) -> i64 {
    let mut taken = 0;
    while client.consume(&consume(key, 1)).await.unwrap().is_allowed() {
        taken += 1;
    }
    taken
}
