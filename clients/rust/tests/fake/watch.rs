//! Invalidations, and how long answers are used because of them.

use std::time::Duration;

use tenant_auth_client::{NearCache, Source, Verdict, proto as v1};
use v1::InvalidationScope::{Key, Session, Tenant, Unspecified};

use super::{
    Pair, SECOND, SILENCE,
    server::{provenance, valid},
};

#[tokio::test]
async fn a_live_stream_makes_an_answer_last_and_silence_ends_that() {
    let pair = Pair::watched().await;
    pair.fake.answer("k", valid("k"));
    let _ = pair.validate("k", &[]).await;
    for revision in 2..=19 {
        pair.clock.pass(SILENCE);
        pair.told(revision).await;
    }
    // 52.2 s.
    let late = pair.validate("k", &[]).await;
    assert_eq!((late.provenance.source, late.provenance.age), (Source::Near, 2 * SECOND + 18 * SILENCE));
    pair.clock.pass(3 * SECOND);
    assert_eq!(pair.validate("k", &[]).await.provenance.source, Source::Near);
    pair.clock.pass(SECOND);
    let _ = pair.validate("k", &[]).await;
    assert_eq!(pair.fake.asked(), 2);
    assert!(!pair.client.watch_state().unwrap().live);
}

#[tokio::test]
async fn it_does_not_last_for_ever() {
    let pair = Pair::with(|builder| builder.near_cache(NearCache::new().watched_for(8 * SECOND))).await;
    pair.fake.watched(1).await;
    pair.told(1).await;
    pair.clock.pass(Duration::from_nanos(1));
    pair.fake.answer("k", valid("k"));
    for (revision, asked) in (2..).zip([1, 1, 1, 1, 2, 2, 2, 2, 3]) {
        let _ = pair.validate("k", &[]).await;
        assert_eq!(pair.fake.asked(), asked, "{revision}");
        pair.clock.pass(2 * SECOND);
        pair.told(revision).await;
    }
}

#[tokio::test]
async fn what_the_stream_cannot_name_or_did_not_cover_ends_with_its_own_time() {
    let pair = Pair::start().await;
    pair.fake.answer("before", valid("before"));
    let _ = pair.validate("before", &[]).await;
    pair.fake.watched(1).await;
    pair.told(3).await;
    pair.clock.pass(Duration::from_nanos(1));
    // As of revision 1: what was told before the stream began may be missing from it.
    pair.fake.answer("old", valid("old"));
    let current = v1::ValidateKeyResponse { provenance: Some(provenance(3)), ..valid("current") };
    pair.fake.answer("current", current);
    for key in ["old", "current", "stranger"] {
        let _ = pair.validate(key, &[]).await;
    }
    for revision in [4, 5] {
        pair.clock.pass(SILENCE);
        pair.told(revision).await;
    }
    let mut sources = Vec::new();
    for key in ["before", "old", "current", "stranger"] {
        sources.push(pair.validate(key, &[]).await.provenance.source);
    }
    assert_eq!(sources, [Source::Fresh, Source::Fresh, Source::Near, Source::Fresh]);
}

#[tokio::test]
async fn news_drops_what_it_is_about_if_it_is_older() {
    let pair = Pair::watched().await;
    let of = |tenant: &str, key: &str, revision| v1::ValidateKeyResponse {
        tenant_id: tenant.to_owned(),
        provenance: Some(provenance(revision)),
        ..valid(key)
    };
    let told = [(5, Key, "key_a"), (6, Tenant, "other"), (7, Session, "key_b"), (8, Key, "key_d")];
    pair.fake.answer("a", of("acme", "a", 1));
    pair.fake.answer("b", of("acme", "b", 1));
    pair.fake.answer("c", of("other", "c", 1));
    pair.fake.answer("d", of("acme", "d", 8));
    for key in ["a", "b", "c", "d"] {
        let _ = pair.validate(key, &[]).await;
    }
    for (revision, scope, id) in told {
        pair.fake.invalidate(revision, scope, id);
    }
    pair.heard(8).await;
    let mut sources = Vec::new();
    for key in ["a", "b", "c", "d"] {
        sources.push(pair.validate(key, &[]).await.provenance.source);
    }
    assert_eq!(sources, [Source::Fresh, Source::Near, Source::Fresh, Source::Near]);
}

#[tokio::test]
async fn a_revocation_is_seen_as_soon_as_it_is_told() {
    let pair = Pair::watched().await;
    pair.fake.answer("k", valid("k"));
    assert!(pair.validate("k", &[]).await.is_valid());
    let revoked = v1::Verdict::Revoked.into();
    pair.fake.answer(
        "k",
        v1::ValidateKeyResponse { verdict: revoked, provenance: Some(provenance(2)), ..valid("k") },
    );
    pair.fake.invalidate(2, Key, "key_k");
    pair.heard(2).await;
    assert_eq!(pair.validate("k", &[]).await.verdict, Verdict::Revoked);
    // And a denial is kept like any other answer, whatever is asked for.
    assert_eq!(pair.validate("k", &["orders:read"]).await.provenance.source, Source::Near);
    assert_eq!(pair.fake.asked(), 2);
}

#[tokio::test]
async fn starting_over_and_what_nobody_understands_forget_everything() {
    let pair = Pair::watched().await;
    pair.fake.answer("k", valid("k"));
    let _ = pair.validate("k", &[]).await;
    pair.fake.start_over(3);
    pair.heard(3).await;
    let _ = pair.validate("k", &[]).await;
    assert_eq!(pair.fake.asked(), 2);
    pair.fake.invalidate(4, Unspecified, "strange");
    pair.heard(4).await;
    let _ = pair.validate("k", &[]).await;
    assert_eq!(pair.fake.asked(), 3);
}

#[tokio::test]
async fn a_stream_that_is_resumed_in_time_has_left_nothing_out() {
    let pair = Pair::watched().await;
    for key in ["k", "l"] {
        pair.fake.answer(key, valid(key));
        let _ = pair.validate(key, &[]).await;
    }
    pair.clock.pass(SILENCE);
    pair.told(7).await;
    pair.fake.cut();
    // Told while nobody listened.
    pair.fake.invalidate(8, Key, "key_l");
    pair.fake.watched(2).await;
    assert_eq!(pair.fake.resumed(), [0, 7]);
    pair.heard(8).await;
    pair.clock.pass(3 * SECOND);
    assert_eq!(pair.validate("k", &[]).await.provenance.source, Source::Near);
    assert_eq!(pair.validate("l", &[]).await.provenance.source, Source::Fresh);
}

#[tokio::test]
async fn a_stream_that_is_resumed_late_begins_anew() {
    let pair = Pair::watched().await;
    pair.fake.answer("k", valid("k"));
    let _ = pair.validate("k", &[]).await;
    pair.fake.cut();
    pair.clock.pass(6 * SECOND);
    pair.fake.watched(2).await;
    pair.told(8).await;
    assert_eq!(pair.validate("k", &[]).await.provenance.source, Source::Fresh);
    assert_eq!(pair.fake.asked(), 2);
}

#[tokio::test]
async fn without_the_stream_the_service_sets_the_time() {
    let pair = Pair::start().await;
    pair.fake.without_watch();
    pair.fake.watched(1).await;
    pair.fake.answer("k", valid("k"));
    for asked in [1, 1, 2] {
        let _ = pair.validate("k", &[]).await;
        assert_eq!(pair.fake.asked(), asked);
        pair.clock.pass(3 * SECOND);
    }
}

#[tokio::test]
async fn who_does_not_watch_opens_no_stream() {
    let pair = Pair::with(|builder| builder.near_cache(NearCache::new().unwatched())).await;
    pair.fake.answer("k", valid("k"));
    let _ = pair.validate("k", &[]).await;
    assert_eq!(pair.validate("k", &[]).await.provenance.source, Source::Near);
    assert!(pair.fake.resumed().is_empty());
}
