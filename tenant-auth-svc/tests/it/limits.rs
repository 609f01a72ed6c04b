//! What limits admit, and what callers are shown of them.

mod kinds;
mod once;
mod reservations;
mod streams;
mod two_replicas;

use tenant_auth_proto::v1;
use tenant_auth_svc::domain::clock::ManualClock;
use tonic::Code;

use crate::harness::{
    NOW, TestDatabase, TestService, error_reason,
    limits::{
        consume, consumption, count_admitted, limit_client, limit_of, limit_state, per_day, rate,
        service_with_key, set_limit, store_limit,
    },
    violated_fields,
};

#[tokio::test]
async fn quota_admits_its_amount_and_not_one_more() {
    for database in TestDatabase::all().await {
        let (service, tenant, key, key_id) = service_with_key(&database).await;
        store_limit(&service, limit_of(&tenant, "requests.daily", per_day(10))).await;
        let first = consume(&service, &key, 3).await.unwrap();
        assert_eq!(first.verdict(), v1::Verdict::Valid, "{}", database.name());
        let Some(v1::consume_response::Validation::Key(validation)) = &first.validation else {
            panic!("{first:?}")
        };
        assert_eq!(
            (validation.tenant_id.as_str(), validation.key_id.as_str()),
            (tenant.as_str(), key_id.as_str())
        );
        let [limit] = first.limits.as_slice() else { panic!("{first:?}") };
        assert_eq!((limit.name.as_str(), limit.metric.as_str()), ("requests.daily", "requests"));
        assert_eq!((limit.limit, limit.remaining, limit.exceeded), (10, 7, false));
        assert_eq!(limit.decided_by(), v1::DecidedBy::Database);
        assert_eq!(limit.window.unwrap().seconds, 86_400);
        assert!(limit.window_start.is_some() && limit.reset_after.is_some());

        let denied = consume(&service, &key, 8).await.unwrap();
        assert_eq!(denied.verdict(), v1::Verdict::QuotaExceeded);
        let [limit] = denied.limits.as_slice() else { panic!("{denied:?}") };
        assert!(limit.exceeded && limit.retry_after.is_some(), "{limit:?}");
        assert_eq!(limit.remaining, 7, "a denied request takes nothing");
        assert_eq!(count_admitted(&service, &key, 10).await, 7);
        let response = consume(&service, &key, 11).await.unwrap();
        assert_eq!(response.limits[0].retry_after, None, "no window admits more than the limit");

        service.running.stop().await;
    }
}

#[tokio::test]
async fn several_limits_take_everything_or_nothing() {
    let database = TestDatabase::test_server().await;
    let (service, tenant, key, _) = service_with_key(&database).await;
    store_limit(&service, limit_of(&tenant, "a.requests", per_day(5))).await;
    store_limit(
        &service,
        v1::Limit { metric: "tokens".to_owned(), ..limit_of(&tenant, "b.tokens", per_day(100)) },
    )
    .await;
    let both = consumption(&key, &[("requests", 1), ("tokens", 60)]);
    let first = limit_client(&service).consume(both.clone()).await.unwrap().into_inner();
    assert_eq!(first.verdict(), v1::Verdict::Valid);
    assert_eq!(first.limits.iter().map(|limit| limit.remaining).collect::<Vec<_>>(), [4, 40]);
    let second = limit_client(&service).consume(both).await.unwrap().into_inner();
    assert_eq!(second.verdict(), v1::Verdict::QuotaExceeded);
    let seen: Vec<_> =
        second.limits.iter().map(|limit| (limit.name.as_str(), limit.remaining, limit.exceeded)).collect();
    assert_eq!(seen, [("a.requests", 4, false), ("b.tokens", 40, true)]);
    // A metric without a limit is admitted.
    let other =
        limit_client(&service).consume(consumption(&key, &[("bytes", 1_000)])).await.unwrap().into_inner();
    assert_eq!((other.verdict(), other.limits.len()), (v1::Verdict::Valid, 0));
}

#[tokio::test]
async fn limit_of_key_replaces_that_of_tenant_which_replaces_that_of_plan() {
    let database = TestDatabase::test_server().await;
    let (service, tenant, key, key_id) = service_with_key(&database).await;
    let (other_key, _) = service.issue_key(&tenant, &[]).await;
    let request = v1::UpdateTenantRequest {
        tenant_id: tenant.clone(),
        plan: "pro".to_owned(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["plan".to_owned()] }),
        ..Default::default()
    };
    service.admin().update_tenant(request).await.unwrap();
    service.poll_feed().await;
    store_limit(&service, limit_of("pro", "requests.daily", per_day(2))).await;
    assert_eq!(count_admitted(&service, &other_key, 4).await, 2);
    store_limit(&service, limit_of(&tenant, "requests.daily", per_day(5))).await;
    service.poll_feed().await;
    assert_eq!(count_admitted(&service, &other_key, 5).await, 3, "what was used counts on");
    store_limit(&service, limit_of(&key_id, "requests.daily", per_day(4))).await;
    service.poll_feed().await;
    assert_eq!(count_admitted(&service, &key, 6).await, 4, "the limit of a key counts for itself");
    let request = v1::DeleteLimitRequest {
        subject: limit_of(&tenant, "x", per_day(1)).subject,
        name: "requests.daily".to_owned(),
    };
    service.admin().delete_limit(request).await.unwrap();
    service.poll_feed().await;
    assert_eq!(consume(&service, &other_key, 1).await.unwrap().limits[0].limit, 2);
}

#[tokio::test]
async fn shadow_limit_is_reported_and_never_denies() {
    let database = TestDatabase::test_server().await;
    let (service, tenant, key, _) = service_with_key(&database).await;
    store_limit(&service, v1::Limit { shadow: true, ..limit_of(&tenant, "requests.daily", per_day(2)) })
        .await;
    assert_eq!(count_admitted(&service, &key, 4).await, 4);
    let response = consume(&service, &key, 1).await.unwrap();
    let limit = &response.limits[0];
    assert_eq!((response.verdict(), limit.exceeded, limit.shadow), (v1::Verdict::Valid, true, true));
}

#[tokio::test]
async fn invalid_credential_takes_nothing() {
    let database = TestDatabase::test_server().await;
    let (service, tenant, key, key_id) = service_with_key(&database).await;
    store_limit(&service, limit_of(&tenant, "requests.daily", per_day(2))).await;
    let mut request = consumption(&key, &[("requests", 1)]);
    let Some(v1::limit_credential::Credential::Key(query)) =
        &mut request.credential.as_mut().unwrap().credential
    else {
        panic!("a key")
    };
    query.required_scopes = vec!["b".to_owned()];
    let denied = limit_client(&service).consume(request).await.unwrap().into_inner();
    assert_eq!((denied.verdict(), denied.limits.len()), (v1::Verdict::InsufficientScope, 0));
    let unknown = consume(&service, "not a key", 1).await.unwrap();
    assert_eq!((unknown.verdict(), unknown.limits.len()), (v1::Verdict::Malformed, 0));
    assert_eq!(count_admitted(&service, &key, 3).await, 2);
    service.revoke_key(&key_id).await;
    let revoked = consume(&service, &key, 1).await.unwrap();
    assert_eq!((revoked.verdict(), revoked.limits.len()), (v1::Verdict::Revoked, 0));
}

#[tokio::test]
async fn invalid_request_names_its_fields() {
    let database = TestDatabase::test_server().await;
    let (service, _, key, _) = service_with_key(&database).await;
    let mut client = limit_client(&service);
    let mut fields =
        async |request: v1::ConsumeRequest| violated_fields(client.consume(request).await.unwrap_err());
    assert_eq!(fields(v1::ConsumeRequest::default()).await, ["credential", "costs"]);
    assert_eq!(fields(consumption("", &[("requests", 1)])).await, ["credential.key.key"]);
    let wrong = consumption(&key, &[("Requests", 1), ("tokens", 0), ("tokens", 1_000_000_001)]);
    assert_eq!(fields(wrong).await, ["costs[0].metric", "costs[1].amount", "costs[2].amount"]);
    assert_eq!(fields(consumption(&key, &[("a", 1), ("a", 1)])).await, ["costs[1].metric"]);
    let id = v1::ConsumeRequest { consume_id: "é".to_owned(), ..consumption(&key, &[("a", 1)]) };
    assert_eq!(fields(id).await, ["consume_id"]);
    let many = vec![("a", 1); 17];
    assert_eq!(fields(consumption(&key, &many)).await, ["costs"]);
    assert_eq!(
        violated_fields(client.batch_consume(v1::BatchConsumeRequest::default()).await.unwrap_err()),
        ["requests"]
    );
    let settle = v1::SettleRequest {
        reservation_id: String::new(),
        actual: vec![v1::SettledCost { metric: "A".to_owned(), amount: -1 }],
    };
    assert_eq!(
        violated_fields(client.settle(settle).await.unwrap_err()),
        ["reservation_id", "actual[0].metric", "actual[0].amount"]
    );
}

#[tokio::test]
async fn state_shows_what_is_used_and_leased() {
    let database = TestDatabase::test_server().await;
    let (service, tenant, key, _) = service_with_key(&database).await;
    store_limit(&service, limit_of(&tenant, "requests.daily", per_day(25_600))).await;
    consume(&service, &key, 30).await.unwrap();
    let [state] = limit_state(&service, &tenant).await.try_into().unwrap();
    assert_eq!(state.used + state.leased + state.remaining, 25_600, "{state:?}");
    assert!(state.leased >= 30, "{state:?}");
    service.running.stop().await;
    let clock = ManualClock::at(NOW);
    let after = TestService::start_at(&database, &clock).await;
    let [state] = limit_state(&after, &tenant).await.try_into().unwrap();
    assert_eq!(
        (state.used, state.leased, state.unaccounted, state.remaining),
        (30, 0, 0, 25_570),
        "{state:?}"
    );
}

#[tokio::test]
async fn changed_amount_applies_at_the_next_poll_of_the_change_log() {
    let database = TestDatabase::test_server().await;
    let (service, tenant, key, _) = service_with_key(&database).await;
    store_limit(&service, limit_of(&tenant, "requests.daily", per_day(1_000_000))).await;
    assert_eq!(count_admitted(&service, &key, 20).await, 20);
    store_limit(&service, limit_of(&tenant, "requests.daily", per_day(25))).await;
    service.poll_feed().await;
    assert_eq!(count_admitted(&service, &key, 20).await, 5, "the lease of the old limit is given back");
    store_limit(&service, limit_of(&tenant, "requests.daily", per_day(30))).await;
    service.poll_feed().await;
    assert_eq!(count_admitted(&service, &key, 10).await, 5, "a raised limit applies at once");
}

#[tokio::test]
async fn expected_version_and_unknown_subjects_are_checked() {
    let database = TestDatabase::test_server().await;
    let (service, tenant, _, _) = service_with_key(&database).await;
    let request = v1::SetLimitRequest {
        expected_version: Some(7),
        ..set_limit(limit_of(&tenant, "requests", rate(10, 1, 5)))
    };
    let error = service.admin().set_limit(request).await.unwrap_err();
    assert_eq!((error.code(), error_reason(&error).as_str()), (Code::Aborted, "LIMIT_VERSION_MISMATCH"));
    let unknown = v1::CancelRequest { reservation_id: "none".to_owned() };
    let error = limit_client(&service).cancel(unknown).await.unwrap_err();
    assert_eq!((error.code(), error_reason(&error).as_str()), (Code::NotFound, "NO_SUCH_RESERVATION"));
}
