//! Caching of sessions.

use tenant_auth_client::{PresentedKey, Source, Verdict, proto as v1};
use v1::InvalidationScope::{Key, Session, Tenant};

use crate::harness::{
    Pair, TOLERATED_SILENCE,
    server::{provenance, session},
};

impl Pair {
    async fn source(&self, session: &str, key: Option<&str>) -> Source {
        let key = key.map(PresentedKey::new);
        self.client.validate_session(session, key.as_ref(), &[]).await.unwrap().provenance.source
    }
}

#[tokio::test]
async fn session_is_cached_with_its_attributes() {
    let pair = Pair::start().await;
    pair.fake.answer_session("s", session());
    pair.source("s", None).await;
    let cached = pair.client.validate_session("s", None, &["orders:read"]).await.unwrap();
    assert_eq!((cached.verdict, cached.provenance.source), (Verdict::Valid, Source::Near));
    assert_eq!(cached.subject.session_id(), Some("s"));
    assert_eq!(cached.subject.attributes()["client"], "desktop");
    let denied = pair.client.validate_session("s", None, &["orders:write"]).await.unwrap();
    assert_eq!((denied.verdict, pair.fake.asked()), (Verdict::InsufficientScope, 1));
    // With a key it is another cache entry.
    assert_eq!(pair.source("s", Some("k")).await, Source::Fresh);
    assert_eq!(pair.source("s", Some("k")).await, Source::Near);
    assert_eq!(pair.source("s", Some("l")).await, Source::Fresh);
}

#[tokio::test]
async fn session_key_and_tenant_changes_invalidate_sessions() {
    let pair = Pair::watched().await;
    pair.fake.answer_session("s", session());
    for (revision, scope, id) in [(2, Session, "s"), (3, Key, "key_k"), (4, Tenant, "acme")] {
        let asked = pair.fake.asked();
        pair.source("s", None).await;
        pair.fake.invalidate(revision, scope, id);
        pair.wait_until_revision(revision).await;
        pair.source("s", None).await;
        assert_eq!(pair.fake.asked(), asked + 2, "{scope:?}");
    }
}

#[tokio::test]
async fn presented_key_changes_invalidate_sessions() {
    let pair = Pair::watched().await;
    let presented = |id: &str| v1::ValidateSessionResponse { presented_key_id: id.to_owned(), ..session() };
    pair.fake.answer_session("s", presented("key_second"));
    pair.source("s", Some("second")).await;
    for revision in [2, 3] {
        pair.clock.advance(TOLERATED_SILENCE);
        pair.heartbeat(revision).await;
    }
    assert_eq!(pair.source("s", Some("second")).await, Source::Near);
    pair.fake.invalidate(4, Key, "key_second");
    pair.wait_until_revision(4).await;
    assert_eq!(pair.source("s", Some("second")).await, Source::Fresh);
    // The answer is of revision 1: answers older than a change are not cached.
    assert_eq!(pair.source("s", Some("second")).await, Source::Fresh);
}

#[tokio::test]
async fn unextended_session_expires_despite_live_stream() {
    let pair = Pair::watched().await;
    let provenance = v1::Provenance { cacheable_while_watched: None, ..provenance(1) };
    pair.fake.answer_session("s", v1::ValidateSessionResponse { provenance: Some(provenance), ..session() });
    pair.source("s", Some("k")).await;
    for revision in [2, 3] {
        pair.clock.advance(TOLERATED_SILENCE);
        pair.heartbeat(revision).await;
    }
    assert_eq!(pair.source("s", Some("k")).await, Source::Fresh);
}

#[tokio::test]
async fn own_unbind_invalidates_the_session() {
    let pair = Pair::start().await;
    pair.fake.answer_session("s", session());
    pair.source("s", None).await;
    assert!(pair.client.unbind_session("s", "acme").await.unwrap().was_bound);
    let unbound = pair.client.validate_session("s", None, &[]).await.unwrap();
    assert_eq!((unbound.verdict, unbound.provenance.source), (Verdict::Unbound, Source::Fresh));
}
