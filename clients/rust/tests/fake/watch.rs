//! The invalidation stream, and how it extends the lifetime of answers.

use std::time::Duration;

use tenant_auth_client::{NearCache, Source, Verdict, proto as v1};
use v1::InvalidationScope::{Key, Session, Tenant, Unspecified};

use crate::harness::{
    Pair, SECOND, TOLERATED_SILENCE,
    server::{provenance, valid},
};

#[tokio::test]
async fn live_stream_extends_lifetime_until_silence() {
    let pair = Pair::watched().await;
    pair.fake.answer("k", valid("k"));
    let _ = pair.validate("k", &[]).await;
    for revision in 2..=19 {
        pair.clock.advance(TOLERATED_SILENCE);
        pair.heartbeat(revision).await;
    }
    // After 52.2 s.
    let late = pair.validate("k", &[]).await;
    assert_eq!(
        (late.provenance.source, late.provenance.age),
        (Source::Near, 2 * SECOND + 18 * TOLERATED_SILENCE)
    );
    pair.clock.advance(3 * SECOND);
    assert_eq!(pair.validate("k", &[]).await.provenance.source, Source::Near);
    pair.clock.advance(SECOND);
    let _ = pair.validate("k", &[]).await;
    assert_eq!(pair.fake.asked(), 2);
    assert!(!pair.client.watch_state().unwrap().live);
}

#[tokio::test]
async fn watched_lifetime_is_bounded() {
    let pair = Pair::with(|builder| builder.near_cache(NearCache::new().watched_for(8 * SECOND))).await;
    pair.fake.watched(1).await;
    pair.heartbeat(1).await;
    pair.clock.advance(Duration::from_nanos(1));
    pair.fake.answer("k", valid("k"));
    for (revision, asked) in (2..).zip([1, 1, 1, 1, 2, 2, 2, 2, 3]) {
        let _ = pair.validate("k", &[]).await;
        assert_eq!(pair.fake.asked(), asked, "{revision}");
        pair.clock.advance(2 * SECOND);
        pair.heartbeat(revision).await;
    }
}

#[tokio::test]
async fn uncovered_answers_use_the_unwatched_lifetime() {
    let pair = Pair::start().await;
    pair.fake.answer("before", valid("before"));
    let _ = pair.validate("before", &[]).await;
    pair.fake.watched(1).await;
    pair.heartbeat(3).await;
    pair.clock.advance(Duration::from_nanos(1));
    // As of revision 1: changes from before the stream started may be missing from it.
    pair.fake.answer("old", valid("old"));
    let current = v1::ValidateKeyResponse { provenance: Some(provenance(3)), ..valid("current") };
    pair.fake.answer("current", current);
    for key in ["old", "current", "stranger"] {
        let _ = pair.validate(key, &[]).await;
    }
    for revision in [4, 5] {
        pair.clock.advance(TOLERATED_SILENCE);
        pair.heartbeat(revision).await;
    }
    let mut sources = Vec::new();
    for key in ["before", "old", "current", "stranger"] {
        sources.push(pair.validate(key, &[]).await.provenance.source);
    }
    assert_eq!(sources, [Source::Fresh, Source::Fresh, Source::Near, Source::Fresh]);
}

#[tokio::test]
async fn change_invalidates_older_entries_only() {
    let pair = Pair::watched().await;
    let of = |tenant: &str, key: &str, revision| v1::ValidateKeyResponse {
        tenant_id: tenant.to_owned(),
        provenance: Some(provenance(revision)),
        ..valid(key)
    };
    let changes = [(5, Key, "key_a"), (6, Tenant, "other"), (7, Session, "key_b"), (8, Key, "key_d")];
    pair.fake.answer("a", of("acme", "a", 1));
    pair.fake.answer("b", of("acme", "b", 1));
    pair.fake.answer("c", of("other", "c", 1));
    pair.fake.answer("d", of("acme", "d", 8));
    for key in ["a", "b", "c", "d"] {
        let _ = pair.validate(key, &[]).await;
    }
    for (revision, scope, id) in changes {
        pair.fake.invalidate(revision, scope, id);
    }
    pair.wait_until_revision(8).await;
    let mut sources = Vec::new();
    for key in ["a", "b", "c", "d"] {
        sources.push(pair.validate(key, &[]).await.provenance.source);
    }
    assert_eq!(sources, [Source::Fresh, Source::Near, Source::Fresh, Source::Near]);
}

#[tokio::test]
async fn revocation_invalidates_when_streamed() {
    let pair = Pair::watched().await;
    pair.fake.answer("k", valid("k"));
    assert!(pair.validate("k", &[]).await.is_valid());
    let revoked = v1::Verdict::Revoked.into();
    pair.fake.answer(
        "k",
        v1::ValidateKeyResponse { verdict: revoked, provenance: Some(provenance(2)), ..valid("k") },
    );
    pair.fake.invalidate(2, Key, "key_k");
    pair.wait_until_revision(2).await;
    assert_eq!(pair.validate("k", &[]).await.verdict, Verdict::Revoked);
    // A denial is cached like any other answer, for all scopes.
    assert_eq!(pair.validate("k", &["orders:read"]).await.provenance.source, Source::Near);
    assert_eq!(pair.fake.asked(), 2);
}

#[tokio::test]
async fn reset_and_unknown_events_clear_the_cache() {
    let pair = Pair::watched().await;
    pair.fake.answer("k", valid("k"));
    let _ = pair.validate("k", &[]).await;
    pair.fake.start_over(3);
    pair.wait_until_revision(3).await;
    let _ = pair.validate("k", &[]).await;
    assert_eq!(pair.fake.asked(), 2);
    pair.fake.invalidate(4, Unspecified, "strange");
    pair.wait_until_revision(4).await;
    let _ = pair.validate("k", &[]).await;
    assert_eq!(pair.fake.asked(), 3);
}

#[tokio::test]
async fn timely_resume_keeps_the_stream_unbroken() {
    let pair = Pair::watched().await;
    for key in ["k", "l"] {
        pair.fake.answer(key, valid(key));
        let _ = pair.validate(key, &[]).await;
    }
    pair.clock.advance(TOLERATED_SILENCE);
    pair.heartbeat(7).await;
    pair.fake.drop_streams();
    // Sent while no stream is open.
    pair.fake.invalidate(8, Key, "key_l");
    pair.fake.watched(2).await;
    assert_eq!(pair.fake.resumed(), [0, 7]);
    pair.wait_until_revision(8).await;
    pair.clock.advance(3 * SECOND);
    assert_eq!(pair.validate("k", &[]).await.provenance.source, Source::Near);
    assert_eq!(pair.validate("l", &[]).await.provenance.source, Source::Fresh);
}

#[tokio::test]
async fn late_resume_starts_a_new_stream() {
    let pair = Pair::watched().await;
    pair.fake.answer("k", valid("k"));
    let _ = pair.validate("k", &[]).await;
    pair.fake.drop_streams();
    pair.clock.advance(6 * SECOND);
    pair.fake.watched(2).await;
    pair.heartbeat(8).await;
    assert_eq!(pair.validate("k", &[]).await.provenance.source, Source::Fresh);
    assert_eq!(pair.fake.asked(), 2);
}

#[tokio::test]
async fn unwatched_lifetime_applies_without_a_stream() {
    let pair = Pair::start().await;
    pair.fake.without_watch();
    pair.fake.watched(1).await;
    pair.fake.answer("k", valid("k"));
    for asked in [1, 1, 2] {
        let _ = pair.validate("k", &[]).await;
        assert_eq!(pair.fake.asked(), asked);
        pair.clock.advance(3 * SECOND);
    }
}

#[tokio::test]
async fn unwatched_client_opens_no_stream() {
    let pair = Pair::with(|builder| builder.near_cache(NearCache::new().unwatched())).await;
    pair.fake.answer("k", valid("k"));
    let _ = pair.validate("k", &[]).await;
    assert_eq!(pair.validate("k", &[]).await.provenance.source, Source::Near);
    assert!(pair.fake.resumed().is_empty());
}
