//! Limits with a fake service, for failures that the real service cannot be made to return.

mod layer;
mod local;

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use tenant_auth_client::{ConsumeRequest, Cost, Error, NotAdmitted, PresentedKey, Verdict, proto as v1};
use tonic::Status;

use crate::harness::{
    limits::{consume, pair, reserve},
    server::{provenance, valid},
    until,
};

#[tokio::test]
async fn only_a_call_with_an_id_is_sent_again() {
    let pair = pair().await;
    pair.fake.fail(Status::unavailable("busy"));
    let outcome = pair.client.consume(&consume("k")).await;
    assert!(matches!(outcome, Err(Error::Unavailable { .. })), "{outcome:?}");
    pair.fake.fail(Status::unavailable("busy"));
    assert!(pair.client.consume(&consume("k").id("c-1")).await.unwrap().is_allowed());
    assert_eq!(pair.fake.limits().consume_ids, ["", "c-1", "c-1"]);

    pair.fake.fail(Status::unavailable("busy"));
    let some_without_id = [consume("k").id("c-2"), consume("k")];
    assert!(pair.client.consume_batch(&some_without_id).await.is_err());
    pair.fake.fail(Status::unavailable("busy"));
    let all_with_id = [consume("k").id("c-3"), consume("k").id("c-4")];
    assert_eq!(pair.client.consume_batch(&all_with_id).await.unwrap().len(), 2);
    assert_eq!(pair.fake.limits().consume_ids[3..], ["c-2", "", "c-3", "c-4", "c-3", "c-4"]);
}

#[tokio::test]
async fn call_without_an_id_is_sent_once_when_the_connection_breaks() {
    let mut pair = pair().await;
    pair.fake.hold(true);
    let client = pair.client.clone();
    let calling = tokio::spawn(async move { client.consume(&consume("k")).await });
    until(|| pair.fake.asked() == 1).await;
    pair.fake.kill().await;
    let outcome = calling.await.unwrap();
    assert!(matches!(outcome, Err(Error::Unreachable { .. })), "{outcome:?}");
    assert_eq!(pair.fake.asked(), 1);
}

#[tokio::test]
async fn key_that_the_near_cache_denies_is_denied_whatever_a_late_replica_says() {
    let pair = pair().await;
    let revoked = v1::ValidateKeyResponse {
        verdict: v1::Verdict::Revoked.into(),
        provenance: Some(provenance(2)),
        ..valid("k")
    };
    pair.fake.answer("k", revoked);
    assert_eq!(pair.validate("k", &[]).await.verdict, Verdict::Revoked);
    pair.fake.answer("k", valid("k"));
    let consumption = pair.client.consume(&consume("k")).await.unwrap();
    assert_eq!((consumption.verdict, consumption.limits.len()), (Verdict::Revoked, 0));
    assert_eq!(consumption.into_principal().unwrap_err().verdict(), Verdict::Revoked);
    let batch = pair.client.consume_batch(&[consume("k")]).await.unwrap();
    assert_eq!(batch[0].as_ref().unwrap().verdict, Verdict::Revoked);
    let reserved = pair.client.reserve(&reserve("k")).await.unwrap();
    assert_eq!(reserved.verdict, Verdict::Revoked);
    until(|| pair.fake.held() == 0).await;
}

#[tokio::test]
async fn answer_from_before_an_announced_change_is_validated_again() {
    let pair = pair().await;
    pair.fake.invalidate(2, v1::InvalidationScope::Key, "key_k");
    pair.wait_until_revision(2).await;
    let asked = pair.fake.asked();
    assert!(pair.client.consume(&consume("k")).await.unwrap().is_allowed());
    assert_eq!(pair.fake.asked() - asked, 2);
    let current = v1::ValidateKeyResponse { provenance: Some(provenance(2)), ..valid("k") };
    pair.fake.answer("k", current);
    let asked = pair.fake.asked();
    assert!(pair.client.consume(&consume("k")).await.unwrap().is_allowed());
    assert_eq!(pair.fake.asked() - asked, 1);
}

#[tokio::test]
async fn dropped_reservation_is_cancelled_in_the_background() {
    let pair = pair().await;
    let reservation = pair.client.reserve(&reserve("k")).await.unwrap().into_reservation().unwrap();
    assert_eq!(pair.fake.held(), 1);
    drop(reservation);
    until(|| pair.fake.held() == 0).await;

    let client = pair.client.clone();
    let crashing = AssertUnwindSafe(async move {
        let _reservation = client.reserve(&reserve("k")).await.unwrap().into_reservation().unwrap();
        panic!("the caller crashes");
    });
    assert!(crashing.catch_unwind().await.is_err());
    until(|| pair.fake.held() == 0).await;
    let ended: Vec<_> = pair.fake.limits().reservations.values().copied().collect();
    assert_eq!(ended, [(4, Some(0)), (4, Some(0))]);
}

#[tokio::test]
async fn reservation_that_was_to_be_settled_is_never_cancelled() {
    let pair = pair().await;
    let mut settled = pair.client.reserve(&reserve("k")).await.unwrap().into_reservation().unwrap();
    settled.settle(&[Cost::new("requests", 3)]).await.unwrap();
    drop(settled);
    let mut failed = pair.client.reserve(&reserve("k")).await.unwrap().into_reservation().unwrap();
    pair.fake.fail(Status::internal("internal error"));
    // The fake has settled it, and the client does not know.
    assert!(failed.settle(&[Cost::new("requests", 2)]).await.is_err());
    let asked = pair.fake.asked();
    drop(failed);
    let id =
        pair.client.reserve(&reserve("k").id("r-1")).await.unwrap().into_reservation().unwrap().into_id();
    assert_eq!((id.as_str(), pair.fake.held(), pair.fake.asked() - asked), ("r-1", 1, 1));
}

#[tokio::test]
async fn reservation_whose_answer_is_lost_is_cancelled_if_nobody_else_knows_its_id() {
    let pair = pair().await;
    for _ in 0..4 {
        pair.fake.fail(Status::unavailable("busy"));
    }
    let limited = pair.client.with_timeout(crate::harness::SECOND).unwrap();
    assert!(limited.reserve(&reserve("k")).await.is_err());
    until(|| pair.fake.held() == 0).await;
}

#[tokio::test]
async fn denial_by_a_limit_names_the_limits() {
    let pair = pair().await;
    let request = ConsumeRequest::new(PresentedKey::new("k")).cost("requests", 11);
    let denied = pair.client.consume(&request).await.unwrap().into_principal().unwrap_err();
    assert_eq!(denied.verdict(), Verdict::QuotaExceeded);
    assert_eq!((denied.limits()[0].name.as_str(), denied.limits()[0].remaining), ("requests", 10));
    assert_eq!(denied.subject().tenant_id(), "acme");
    assert_eq!(NotAdmitted::from(denied).to_string(), "denied: QUOTA_EXCEEDED");
}
