//! Changes that arrive while a request is in flight.

use tenant_auth_client::{Error, PresentedKey, Source, Validation, Verdict, proto as v1};
use tokio::task::JoinHandle;
use v1::InvalidationScope::Key;

use crate::harness::{
    Pair,
    server::{provenance, valid},
    until,
};

fn ask(pair: &Pair) -> JoinHandle<Result<Validation, Error>> {
    let client = pair.client.clone();
    tokio::spawn(async move { client.validate(&PresentedKey::new("k"), &[]).await })
}

fn revoked(revision: i64) -> v1::ValidateKeyResponse {
    let verdict = v1::Verdict::Revoked.into();
    v1::ValidateKeyResponse { verdict, provenance: Some(provenance(revision)), ..valid("k") }
}

/// Returns a pair with a request in flight whose answer is VALID as of revision 1.
async fn with_request_in_flight() -> (Pair, JoinHandle<Result<Validation, Error>>) {
    let pair = Pair::watched().await;
    pair.fake.answer("k", valid("k"));
    pair.fake.hold(true);
    let request = ask(&pair);
    until(|| pair.fake.asked() == 1).await;
    (pair, request)
}

#[tokio::test]
async fn outdated_answer_is_returned_but_not_cached() {
    let (pair, request) = with_request_in_flight().await;
    pair.fake.answer("k", revoked(2));
    pair.fake.invalidate(2, Key, "key_k");
    pair.wait_until_revision(2).await;
    pair.fake.hold(false);
    assert!(request.await.unwrap().unwrap().is_valid());
    assert_eq!(pair.validate("k", &[]).await.verdict, Verdict::Revoked);
    assert_eq!(pair.fake.asked(), 2);
}

#[tokio::test]
async fn request_after_a_change_does_not_join_an_older_one() {
    let (pair, request) = with_request_in_flight().await;
    pair.fake.answer("k", revoked(2));
    pair.fake.invalidate(2, Key, "key_k");
    pair.wait_until_revision(2).await;
    let later = ask(&pair);
    until(|| pair.fake.asked() == 2).await;
    pair.fake.hold(false);
    assert_eq!(later.await.unwrap().unwrap().verdict, Verdict::Revoked);
    assert!(request.await.unwrap().unwrap().is_valid());
    // The newer answer is cached, in any order of arrival.
    assert_eq!(pair.validate("k", &[]).await.verdict, Verdict::Revoked);
    assert_eq!(pair.fake.asked(), 2);
}

#[tokio::test]
async fn up_to_date_answer_is_cached() {
    let pair = Pair::watched().await;
    pair.fake.answer("k", revoked(2));
    pair.fake.hold(true);
    let request = ask(&pair);
    until(|| pair.fake.asked() == 1).await;
    pair.fake.invalidate(2, Key, "key_k");
    pair.wait_until_revision(2).await;
    pair.fake.hold(false);
    assert_eq!(request.await.unwrap().unwrap().verdict, Verdict::Revoked);
    assert_eq!(pair.validate("k", &[]).await.provenance.source, Source::Near);
}

#[tokio::test]
async fn unrelated_change_does_not_invalidate() {
    let (pair, request) = with_request_in_flight().await;
    pair.fake.invalidate(2, Key, "key_other");
    pair.wait_until_revision(2).await;
    pair.fake.hold(false);
    let _ = request.await.unwrap().unwrap();
    assert_eq!(pair.validate("k", &[]).await.provenance.source, Source::Near);
}

/// A replica that has not applied the change yet.
#[tokio::test]
async fn lagging_answer_is_not_cached() {
    let pair = Pair::watched().await;
    pair.fake.invalidate(2, Key, "key_k");
    pair.wait_until_revision(2).await;
    pair.fake.answer("k", valid("k"));
    assert!(pair.validate("k", &[]).await.is_valid());
    pair.fake.answer("k", revoked(2));
    assert_eq!(pair.validate("k", &[]).await.verdict, Verdict::Revoked);
}

#[tokio::test]
async fn reset_outdates_requests_in_flight() {
    let (pair, request) = with_request_in_flight().await;
    // The revisions of a restored database may be lower.
    pair.fake.answer("k", revoked(1));
    pair.fake.start_over(1);
    pair.fake.heartbeat(2);
    pair.wait_until_revision(2).await;
    pair.fake.hold(false);
    assert!(request.await.unwrap().unwrap().is_valid());
    assert_eq!(pair.validate("k", &[]).await.verdict, Verdict::Revoked);
}
