//! Limits with a real tenant-auth service.

mod adapters;
mod local;

use std::time::Duration;

use futures::{StreamExt as _, stream};
use tenant_auth_client::{
    BindSession, ConsumeRequest, Cost, DecidedBy, Error, KeyQuery, LimitOwner, NotAdmitted, OnExpiry,
    PresentedKey, ReservationState, SessionQuery, Verdict, proto as v1,
};

use crate::harness::{
    limits::{acme, consume, copy, limited, reserve, set_limit, take_rest},
    until,
};

#[tokio::test]
async fn amounts_are_taken_all_or_none_and_a_denial_names_the_limit() {
    let (service, key) = limited(3).await;
    let query = KeyQuery::new(copy(&key)).requires("orders:read");
    let allowed = service.client.consume(&ConsumeRequest::new(query).cost("requests", 2)).await.unwrap();
    assert_eq!((allowed.verdict, allowed.already_consumed), (Verdict::Valid, false));
    assert_eq!(allowed.principal().unwrap().tenant_id(), "acme");
    let limit = &allowed.limits[0];
    assert_eq!((limit.name.as_str(), limit.limit, limit.exceeded), ("hourly", 3, false));
    assert!(matches!(limit.decided_by, DecidedBy::Lease | DecidedBy::Database), "{limit:?}");

    let denied = service.client.consume(&consume(&key, 2)).await.unwrap();
    assert!(!denied.is_allowed() && denied.validation.is_valid() && denied.principal().is_none());
    assert_eq!(denied.verdict, Verdict::QuotaExceeded);
    assert_eq!(take_rest(&service.client, &key).await, 1);
    let denied = service.client.consume(&consume(&key, 1)).await.unwrap();
    assert!(denied.limits[0].remaining == 0 && denied.limits.retry_after().is_some(), "{denied:?}");
    assert_eq!(denied.into_principal().unwrap_err().limits()[0].window, Some(Duration::from_secs(3_600)));
}

#[tokio::test]
async fn consume_id_counts_once() {
    let (service, key) = limited(3).await;
    let request = consume(&key, 2).id("c-1");
    assert!(!service.client.consume(&request).await.unwrap().already_consumed);
    let again = service.client.consume(&request).await.unwrap();
    assert!(again.is_allowed() && again.already_consumed && again.limits.is_empty());
    let other = service.client.consume(&consume(&key, 1).id("c-1")).await;
    assert!(matches!(other, Err(Error::AlreadyExists { .. })), "{other:?}");
    assert_eq!(take_rest(&service.client, &key).await, 1);
}

#[tokio::test]
async fn revoked_key_takes_nothing() {
    let (service, key) = limited(3).await;
    let key_id = service.client.require(&key, &[]).await.unwrap().key_id().to_owned();
    service.admin().revoke_key(&key_id, "test").await.unwrap();
    let denied = service.client.consume(&consume(&key, 1)).await.unwrap();
    assert_eq!((denied.verdict, denied.limits.len()), (Verdict::Revoked, 0));
    assert_eq!(service.client.reserve(&reserve(&key, 1)).await.unwrap().verdict, Verdict::Revoked);
}

#[tokio::test]
async fn stream_answers_each_request_of_keys_and_sessions() {
    let (service, key) = limited(3).await;
    let session = BindSession::new("s-1", Duration::from_secs(60));
    assert!(service.client.bind_session(session, &key).await.unwrap().verdict.is_valid());
    let requests = vec![
        (7, consume(&key, 1)),
        (8, ConsumeRequest::new(SessionQuery::new("s-1").requires("orders:read")).cost("requests", 2)),
        (9, consume(&key, 0)),
        (10, consume(&key, 4)),
    ];
    let answers = service.client.consume_stream(stream::iter(requests)).await.unwrap();
    let mut answers: Vec<_> = answers.map(Result::unwrap).collect().await;
    answers.sort_by_key(|answer| answer.correlation_id);
    let outcome = |index: usize| answers[index].outcome.as_ref();
    assert!(outcome(0).unwrap().is_allowed());
    let of_session = outcome(1).unwrap();
    assert_eq!(of_session.principal().unwrap().session_id(), Some("s-1"));
    let Err(Error::Invalid { violations, .. }) = outcome(2) else { unreachable!() };
    assert_eq!(violations[0].field, "costs[0].amount");
    assert_eq!(outcome(3).unwrap().verdict, Verdict::QuotaExceeded);
    assert_eq!(take_rest(&service.client, &key).await, 0);
}

#[tokio::test]
async fn batch_keeps_the_order_of_its_requests() {
    let (service, key) = limited(5).await;
    let unknown = ConsumeRequest::new(PresentedKey::new("some-strange-key")).cost("requests", 1);
    let long = ConsumeRequest::new(PresentedKey::new("k".repeat(600))).cost("requests", 1);
    let requests = [consume(&key, 2), unknown, long, consume(&key, 9), consume(&key, 3)];
    let outcomes = service.client.consume_batch(&requests).await.unwrap();
    let verdicts: Vec<_> = outcomes.into_iter().map(|outcome| outcome.unwrap().verdict).collect();
    let expected =
        [Verdict::Valid, Verdict::Unknown, Verdict::Malformed, Verdict::QuotaExceeded, Verdict::Valid];
    assert_eq!(verdicts, expected);
}

#[tokio::test]
async fn reservation_is_settled_once_with_the_actual_amount() {
    let (service, key) = limited(10).await;
    let request = reserve(&key, 8).expires_in(Duration::from_secs(60)).on_expiry(OnExpiry::Charge);
    let outcome = service.client.reserve(&request).await.unwrap();
    assert!(outcome.expires_in.unwrap() <= Duration::from_secs(60));
    let mut reservation = outcome.into_reservation().unwrap();
    let denied = service.client.reserve(&reserve(&key, 8)).await.unwrap().into_reservation().unwrap_err();
    assert_eq!((denied.verdict(), denied.limits()[0].exceeded), (Verdict::QuotaExceeded, true));
    let actual = [Cost::new("requests", 3)];
    let settlement = reservation.settle(&actual).await.unwrap();
    assert_eq!((settlement.state, settlement.already_settled), (ReservationState::Settled, false));
    assert_eq!((settlement.limits[0].reserved, settlement.limits[0].charged), (8, 3));
    assert!(reservation.settle(&actual).await.unwrap().already_settled);
    let cancelled = service.client.cancel_reservation(reservation.id()).await;
    assert!(matches!(cancelled, Err(Error::FailedPrecondition { .. })), "{cancelled:?}");
    until(async || service.client.consume(&consume(&key, 7)).await.unwrap().is_allowed()).await;
    let unknown = service.client.settle_reservation("nobody-reserved-this", &actual).await;
    assert!(matches!(unknown, Err(Error::NotFound { .. })), "{unknown:?}");
}

#[tokio::test]
async fn reservation_of_a_task_that_ends_early_is_cancelled() {
    let (service, key) = limited(10).await;
    let (client, of_task) = (service.client.clone(), copy(&key));
    let working = tokio::spawn(async move {
        let _reservation = client.reserve(&reserve(&of_task, 10)).await.unwrap().into_reservation().unwrap();
        panic!("the work fails");
    });
    assert!(working.await.is_err());
    until(async || service.client.consume(&consume(&key, 10)).await.unwrap().is_allowed()).await;
}

#[tokio::test]
async fn limits_are_administered_and_their_state_is_read() {
    let (service, key) = limited(10).await;
    let credits = v1::limit::Rule::Credits(v1::Credits { initial: 5, refill: None });
    set_limit(&service.client, "tokens", "tokens", credits).await;
    let request = v1::AddCreditsRequest {
        subject: Some(acme()),
        name: "tokens".to_owned(),
        amount: 2,
        adjustment_id: "a-1".to_owned(),
        reason: "paid".to_owned(),
    };
    assert!(!service.admin().add_credits(request.clone()).await.unwrap().already_added);
    assert!(service.admin().add_credits(request).await.unwrap().already_added);
    assert!(service.client.consume(&consume(&key, 4).id("c-1")).await.unwrap().is_allowed());

    let state = service.client.limit_state(LimitOwner::Tenant("acme")).await.unwrap();
    let of = |name: &str| state.iter().find(|state| state.limit.as_ref().unwrap().name == name).unwrap();
    // What is taken with an id is committed: as used, or in the lease of the replica.
    assert!(of("hourly").used + of("hourly").leased >= 4 && of("hourly").remaining <= 6, "{state:?}");
    assert_eq!((of("tokens").used, of("tokens").remaining), (0, 7));
    let unknown = service.client.limit_state(LimitOwner::Key("key_nobody")).await;
    assert!(matches!(unknown, Err(Error::NotFound { .. } | Error::Invalid { .. })), "{unknown:?}");

    assert_eq!(service.admin().get_limit(acme(), "tokens").await.unwrap().metric, "tokens");
    assert!(service.admin().delete_limit(acme(), "tokens").await.unwrap().existed);
    let list = v1::ListLimitsRequest { subject: Some(acme()), ..Default::default() };
    let listed = service.admin().list_limits(list).await.unwrap().limits;
    assert_eq!(listed.iter().map(|limit| limit.name.as_str()).collect::<Vec<_>>(), ["hourly"]);
    let gone = service.admin().get_limit(acme(), "tokens").await;
    assert!(matches!(gone, Err(Error::NotFound { .. })), "{gone:?}");
}

#[tokio::test]
async fn denial_of_a_limit_is_a_denial_of_the_request() {
    let (service, key) = limited(0).await;
    let outcome = service.client.consume(&consume(&key, 1)).await.unwrap().into_principal();
    let not_admitted = NotAdmitted::from(outcome.unwrap_err());
    assert!(
        matches!(&not_admitted, NotAdmitted::Denied(denied) if denied.verdict() == Verdict::QuotaExceeded)
    );
}
