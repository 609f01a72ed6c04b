//! The local limiter, with a clock that the test moves.

use std::time::Duration;

use tenant_auth_client::{Client, Error, LocalLimiter, NotAdmitted, PresentedKey, Verdict, proto as v1};
use tonic::Status;

use crate::harness::limits::pair;
use crate::harness::{Pair, SECOND, until};

/// Returns a pair with the key `k`, and a limiter of requests with chunks that expire after 30 s.
async fn limited(left: i64) -> (Pair, LocalLimiter) {
    let pair = pair().await;
    pair.fake.limits().left.insert("requests".to_owned(), left);
    pair.fake.limits().expires_in = Some(Duration::from_secs(30));
    let limiter = LocalLimiter::start(pair.client.clone(), "requests").unwrap();
    (pair, limiter)
}

async fn admit(limiter: &LocalLimiter) -> Result<(), NotAdmitted> {
    limiter.admit(&PresentedKey::new("k"), &["orders:read"], 1).await.map(drop)
}

fn verdict(outcome: &Result<(), NotAdmitted>) -> Option<Verdict> {
    match outcome {
        Err(NotAdmitted::Denied(denied)) => Some(denied.verdict()),
        _ => None,
    }
}

#[tokio::test]
async fn limiter_admits_exactly_what_the_limit_permits() {
    let (pair, limiter) = limited(100).await;
    let mut admitted = 0;
    loop {
        let outcome = admit(&limiter).await;
        if let Err(error) = outcome {
            assert_eq!(verdict(&Err(error)), Some(Verdict::QuotaExceeded));
            break;
        }
        admitted += 1;
    }
    assert_eq!((admitted, pair.fake.requests_left()), (100, 0));
    // Chunks have grown: a call for each would be a hundred.
    assert!(pair.fake.limits().reservations.len() < 20);
    let asked = pair.fake.asked();
    assert_eq!(verdict(&admit(&limiter).await), Some(Verdict::QuotaExceeded));
    assert_eq!(pair.fake.asked(), asked);
    pair.clock.advance(SECOND);
    assert_eq!(verdict(&admit(&limiter).await), Some(Verdict::QuotaExceeded));
    assert!(pair.fake.asked() > asked);
}

#[tokio::test]
async fn closing_settles_what_was_admitted() {
    let (pair, limiter) = limited(1_000).await;
    for _ in 0..50 {
        admit(&limiter).await.unwrap();
    }
    limiter.clone().close().await;
    assert_eq!((pair.fake.requests_left(), pair.fake.held()), (950, 0));
    assert_eq!(admit(&limiter).await, Err(Error::Closed.into()));
}

#[tokio::test]
async fn revoked_key_admits_nothing_as_soon_as_the_stream_names_it() {
    let (pair, limiter) = limited(1_000).await;
    for _ in 0..50 {
        admit(&limiter).await.unwrap();
    }
    pair.fake
        .answer("k", v1::ValidateKeyResponse { verdict: v1::Verdict::Revoked.into(), ..Default::default() });
    pair.fake.invalidate(2, v1::InvalidationScope::Key, "key_k");
    pair.wait_until_revision(2).await;
    assert_eq!(verdict(&admit(&limiter).await), Some(Verdict::Revoked));
}

#[tokio::test]
async fn chunk_is_used_no_longer_shortly_before_it_expires() {
    let (pair, limiter) = limited(1_000).await;
    for _ in 0..5 {
        admit(&limiter).await.unwrap();
    }
    let reserved = |pair: &Pair| pair.fake.limits().reservations.len();
    let before = reserved(&pair);
    pair.clock.advance(Duration::from_secs(27));
    admit(&limiter).await.unwrap();
    assert!(reserved(&pair) > before);
    // The retired chunks are settled in the background, within a second.
    until(|| pair.fake.held() <= reserved(&pair) - before).await;
    limiter.close().await;
    assert_eq!((pair.fake.requests_left(), pair.fake.held()), (994, 0));
}

#[tokio::test]
async fn amounts_larger_than_a_chunk_are_reserved_as_a_whole_or_denied() {
    let (pair, limiter) = limited(10).await;
    let key = PresentedKey::new("k");
    limiter.admit(&key, &[], 7).await.unwrap();
    let denied = limiter.admit(&key, &[], 4).await.map(drop);
    assert_eq!(verdict(&denied), Some(Verdict::QuotaExceeded));
    limiter.admit(&key, &[], 3).await.unwrap();
    let invalid = limiter.admit(&key, &[], 0).await.map(drop);
    assert!(matches!(invalid, Err(NotAdmitted::Undecided(Error::Invalid { .. }))), "{invalid:?}");
    assert_eq!(pair.fake.requests_left(), 0);
}

#[tokio::test]
async fn scopes_are_decided_with_each_request() {
    let (_pair, limiter) = limited(10).await;
    let denied = limiter.admit(&PresentedKey::new("k"), &["admin"], 1).await.map(drop);
    assert_eq!(verdict(&denied), Some(Verdict::InsufficientScope));
    admit(&limiter).await.unwrap();
}

#[tokio::test]
async fn failed_reservation_admits_nothing() {
    let (pair, limiter) = limited(10).await;
    // The first answer is that of the validation.
    assert!(pair.validate("k", &[]).await.is_valid());
    pair.fake.fail(Status::internal("internal error"));
    assert!(matches!(admit(&limiter).await, Err(NotAdmitted::Undecided(Error::Other { .. }))));
    pair.fake.limits().expires_in = None;
    assert!(matches!(admit(&limiter).await, Err(NotAdmitted::Undecided(Error::Other { .. }))));
}

#[tokio::test]
async fn limiter_needs_a_near_cache() {
    let client = Client::builder("http://127.0.0.1:1").without_near_cache().connect_lazy().unwrap();
    let refused = LocalLimiter::start(client, "requests").unwrap_err();
    assert!(refused.to_string().contains("near-cache"), "{refused}");
}
