//! Requests about limits.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1::{
    self, limit_credential::Credential, limit_service_client::LimitServiceClient, limit_subject::Subject,
};
use tenant_auth_svc::domain::clock::ManualClock;
use tonic::{Request, Status, transport::Channel};

use super::{NOW, TestDatabase, TestService};

/// Whose limit it is: a text that begins with `key_` or `ten_` is an id, and another one is the name of a plan.
pub(crate) fn limit_subject(text: &str) -> Option<v1::LimitSubject> {
    let owned = text.to_owned();
    let subject = match text.get(..4) {
        Some("key_") => Subject::KeyId(owned),
        Some("ten_") => Subject::TenantId(owned),
        _ => Subject::Plan(owned),
    };
    Some(v1::LimitSubject { subject: Some(subject) })
}

pub(crate) fn limit_of(subject: &str, name: &str, rule: v1::limit::Rule) -> v1::Limit {
    v1::Limit {
        subject: limit_subject(subject),
        name: name.to_owned(),
        metric: "requests".to_owned(),
        rule: Some(rule),
        on_outage: v1::OutagePolicy::Closed.into(),
        ..Default::default()
    }
}

pub(crate) fn per_day(amount: i64) -> v1::limit::Rule {
    let window = v1::quota::Window::Calendar(v1::CalendarWindow::Day.into());
    v1::limit::Rule::Quota(v1::Quota { amount, window: Some(window) })
}

pub(crate) fn set_limit(limit: v1::Limit) -> v1::SetLimitRequest {
    v1::SetLimitRequest { limit: Some(limit), expected_version: None }
}

pub(crate) fn rate(amount: i64, seconds: i64, burst: i64) -> v1::limit::Rule {
    v1::limit::Rule::Rate(v1::Rate { amount, per: Some(prost_types::Duration { seconds, nanos: 0 }), burst })
}

pub(crate) fn credits(initial: i64) -> v1::limit::Rule {
    v1::limit::Rule::Credits(v1::Credits { initial, refill: None })
}

pub(crate) fn rolling(amount: i64, seconds: i64) -> v1::limit::Rule {
    let window = v1::quota::Window::Rolling(prost_types::Duration { seconds, nanos: 0 });
    v1::limit::Rule::Quota(v1::Quota { amount, window: Some(window) })
}

pub(crate) fn limit_client(service: &TestService) -> LimitServiceClient<Channel> {
    LimitServiceClient::new(service.channel.clone())
}

pub(crate) async fn store_limit(service: &TestService, limit: v1::Limit) {
    service.admin().set_limit(set_limit(limit)).await.unwrap();
}

pub(crate) fn key_credential(key: &str) -> Option<v1::LimitCredential> {
    let request = v1::ValidateKeyRequest { key: key.to_owned(), ..Default::default() };
    Some(v1::LimitCredential { credential: Some(Credential::Key(request)) })
}

pub(crate) fn cost(metric: &str, amount: i64) -> v1::Cost {
    v1::Cost { metric: metric.to_owned(), amount }
}

pub(crate) fn consumption(key: &str, costs: &[(&str, i64)]) -> v1::ConsumeRequest {
    let costs = costs.iter().map(|(metric, amount)| cost(metric, *amount)).collect();
    v1::ConsumeRequest { credential: key_credential(key), costs, consume_id: String::new() }
}

/// Takes an amount of `requests`, and waits up to 5 s.
pub(crate) async fn consume(
    service: &TestService,
    key: &str,
    amount: i64,
) -> Result<v1::ConsumeResponse, Status> {
    let mut request = Request::new(consumption(key, &[("requests", amount)]));
    request.set_timeout(Duration::from_secs(5));
    Ok(limit_client(service).consume(request).await?.into_inner())
}

/// Returns how many of `calls` calls are admitted.
pub(crate) async fn count_admitted(service: &TestService, key: &str, calls: usize) -> usize {
    let mut admitted = 0;
    for _ in 0..calls {
        let response = consume(service, key, 1).await.unwrap();
        admitted += usize::from(response.verdict() == v1::Verdict::Valid);
    }
    admitted
}

pub(crate) async fn limit_state(service: &TestService, tenant: &str) -> Vec<v1::LimitState> {
    let subject = Some(v1::get_limit_state_request::Subject::TenantId(tenant.to_owned()));
    let request = v1::GetLimitStateRequest { subject };
    limit_client(service).get_limit_state(request).await.unwrap().into_inner().limits
}

/// A service with a tenant and a key: its id, the key, and the id of the key.
pub(crate) async fn service_with_key(database: &TestDatabase) -> (TestService, String, String, String) {
    service_with_key_at(database, &ManualClock::at(NOW)).await
}

pub(crate) async fn service_with_key_at(
    database: &TestDatabase,
    clock: &Arc<ManualClock>,
) -> (TestService, String, String, String) {
    let service = TestService::start_at(database, clock).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, key_id) = service.issue_key(&tenant, &["a"]).await;
    (service, tenant, key, key_id)
}
