//! Caching of answers and their lifetimes.

use tenant_auth_client::{Error, NearCache, PresentedKey, Source, Verdict, proto as v1};
use tonic::Status;

use crate::harness::{
    Pair, SECOND,
    server::{provenance, valid},
    until,
};

#[tokio::test]
async fn second_request_is_served_from_cache() {
    let pair = Pair::start().await;
    pair.fake.answer("k", valid("k"));
    let first = pair.validate("k", &[]).await;
    assert_eq!((first.provenance.source, first.provenance.age), (Source::Fresh, 2 * SECOND));
    pair.clock.advance(3 * SECOND);
    let second = pair.validate("k", &[]).await;
    assert_eq!((second.provenance.source, second.provenance.age), (Source::Near, 5 * SECOND));
    assert_eq!(second.provenance.cacheable_for, 2 * SECOND);
    assert_eq!((second.verdict, second.subject), (Verdict::Valid, first.subject));
    assert_eq!(pair.fake.asked(), 1);
}

#[tokio::test]
async fn one_cached_answer_serves_all_scopes() {
    let pair = Pair::start().await;
    pair.fake.answer("k", valid("k"));
    assert!(pair.validate("k", &["orders:read"]).await.is_valid());
    let denied = pair.validate("k", &["orders:read", "orders:write", "a", "orders:write"]).await;
    assert_eq!(denied.verdict, Verdict::InsufficientScope);
    // In the order of the service: sorted, without duplicates.
    assert_eq!(denied.missing_scopes, ["a", "orders:write"]);
    assert!(pair.validate("k", &[]).await.is_valid());
    assert_eq!(pair.fake.asked(), 1);
    // An invalid scope is not "missing": the service reports what is wrong with it.
    let error = pair.client.validate(&PresentedKey::new("k"), &["not a scope"]).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
}

#[tokio::test]
async fn answer_expires_regardless_of_use() {
    let pair = Pair::start().await;
    pair.fake.answer("k", valid("k"));
    for asked in 1..=3 {
        for _ in 0..5 {
            let _ = pair.validate("k", &[]).await;
            assert_eq!(pair.fake.asked(), asked);
            pair.clock.advance(SECOND);
        }
    }
}

#[tokio::test]
async fn lifetime_counts_from_before_the_request() {
    let pair = Pair::start().await;
    pair.fake.answer("k", valid("k"));
    pair.fake.hold(true);
    let request = {
        let client = pair.client.clone();
        tokio::spawn(async move { client.validate(&PresentedKey::new("k"), &[]).await })
    };
    until(|| pair.fake.asked() == 1).await;
    pair.clock.advance(4 * SECOND);
    pair.fake.hold(false);
    let _ = request.await.unwrap().unwrap();
    assert_eq!(pair.validate("k", &[]).await.provenance.source, Source::Near);
    pair.clock.advance(SECOND);
    let _ = pair.validate("k", &[]).await;
    assert_eq!(pair.fake.asked(), 2);
}

#[tokio::test]
async fn uncacheable_answers_are_not_cached() {
    let pair = Pair::start().await;
    let provenance = v1::Provenance { cacheable_for: None, cacheable_while_watched: None, ..provenance(1) };
    pair.fake.answer("k", v1::ValidateKeyResponse { provenance: Some(provenance), ..valid("k") });
    for asked in 1..=3 {
        assert!(pair.validate("k", &[]).await.is_valid());
        assert_eq!(pair.fake.asked(), asked);
    }
}

#[tokio::test]
async fn errors_are_not_cached() {
    let pair = Pair::start().await;
    pair.fake.answer("k", valid("k"));
    pair.fake.fail(Status::internal("internal error"));
    let error = pair.client.validate(&PresentedKey::new("k"), &[]).await.unwrap_err();
    assert!(matches!(error, Error::Other { .. }), "{error:?}");
    assert!(pair.validate("k", &[]).await.is_valid());
}

#[tokio::test]
async fn concurrent_requests_share_one_call() {
    let pair = Pair::start().await;
    pair.fake.answer("k", valid("k"));
    pair.fake.hold(true);
    let request = |scopes: &'static [&'static str]| {
        let client = pair.client.clone();
        tokio::spawn(async move { client.validate(&PresentedKey::new("k"), scopes).await })
    };
    let first = request(&[]);
    until(|| pair.fake.asked() == 1).await;
    let others: Vec<_> =
        (0..1_000).map(|n| request(if n % 2 == 0 { &["orders:read"] } else { &["a"] })).collect();
    tokio::task::yield_now().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    pair.fake.hold(false);
    for (number, request) in others.into_iter().enumerate() {
        assert_eq!(request.await.unwrap().unwrap().is_valid(), number % 2 == 0);
    }
    assert_eq!(pair.fake.asked(), 1);
}

#[tokio::test]
async fn failure_is_shared_by_waiting_requests() {
    let pair = Pair::start().await;
    pair.fake.fail(Status::internal("internal error"));
    pair.fake.hold(true);
    let request = || {
        let client = pair.client.clone();
        tokio::spawn(async move { client.validate(&PresentedKey::new("k"), &[]).await })
    };
    let requests = [request(), request(), request()];
    until(|| pair.fake.asked() == 1).await;
    tokio::task::yield_now().await;
    pair.fake.hold(false);
    for request in requests {
        assert!(request.await.unwrap().is_err());
    }
    assert_eq!(pair.fake.asked(), 1);
}

#[tokio::test]
async fn capacity_is_bounded_and_hot_keys_survive() {
    let pair = Pair::with(|builder| builder.near_cache(NearCache::new().entries(64))).await;
    pair.fake.answer("k", valid("k"));
    for number in 0..2_000 {
        let _ = pair.validate("k", &[]).await;
        let _ = pair.validate(&format!("unknown-{number}"), &[]).await;
    }
    let asked = pair.fake.asked();
    assert!((2_001..2_020).contains(&asked), "{asked}");
    // Few of the unknown keys are still cached.
    for number in 0..2_000 {
        let _ = pair.validate(&format!("unknown-{number}"), &[]).await;
    }
    assert!(pair.fake.asked() - asked >= 2_000 - 64, "{}", pair.fake.asked() - asked);
}

#[tokio::test]
async fn disabled_cache_sends_every_request() {
    let pair = Pair::with(|builder| builder.without_near_cache()).await;
    pair.fake.answer("k", valid("k"));
    for asked in 1..=3 {
        let _ = pair.validate("k", &["orders:read"]).await;
        assert_eq!(pair.fake.asked(), asked);
    }
    assert_eq!(pair.client.watch_state(), None);
    assert!(pair.fake.resumed().is_empty());
}

#[tokio::test]
async fn cache_debug_shows_no_key() {
    let pair = Pair::start().await;
    pair.fake.answer("ta_canary", valid("k"));
    let validation = pair.validate("ta_canary", &[]).await;
    pair.fake.fail(Status::internal("internal error"));
    pair.clock.advance(60 * SECOND);
    let error = pair.client.validate(&PresentedKey::new("ta_canary"), &[]).await.unwrap_err();
    let printed = format!("{:?} {validation:?} {error:?} {error}", pair.client);
    assert!(!printed.contains("canary"), "{printed}");
}
