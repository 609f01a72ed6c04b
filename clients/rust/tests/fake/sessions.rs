//! Sessions in memory.

use tenant_auth_client::{Clock as _, PresentedKey, Source, Verdict};

use super::{Pair, SECOND, SILENCE, server::session};
use tenant_auth_client::proto::InvalidationScope::{Key, Session, Tenant};

impl Pair {
    async fn source(&self, session: &str, key: Option<&str>) -> Source {
        let key = key.map(PresentedKey::new);
        self.client.validate_session(session, key.as_ref(), &[]).await.unwrap().provenance.source
    }
}

#[tokio::test]
async fn a_session_is_kept_with_what_was_attached() {
    let pair = Pair::start().await;
    pair.fake.answer_session("s", session(pair.clock.start + 3_600 * SECOND));
    pair.source("s", None).await;
    let kept = pair.client.validate_session("s", None, &["orders:read"]).await.unwrap();
    assert_eq!((kept.verdict, kept.provenance.source), (Verdict::Valid, Source::Near));
    assert_eq!(kept.principal.session_id(), Some("s"));
    assert_eq!(kept.principal.attributes()["client"], "desktop");
    let denied = pair.client.validate_session("s", None, &["orders:write"]).await.unwrap();
    assert_eq!((denied.verdict, pair.fake.asked()), (Verdict::InsufficientScope, 1));
    // With a key it is another question.
    assert_eq!(pair.source("s", Some("k")).await, Source::Fresh);
    assert_eq!(pair.source("s", Some("k")).await, Source::Near);
    assert_eq!(pair.source("s", Some("l")).await, Source::Fresh);
}

#[tokio::test]
async fn news_about_the_session_its_key_or_its_tenant_drops_it() {
    let pair = Pair::watched().await;
    pair.fake.answer_session("s", session(pair.clock.start + 3_600 * SECOND));
    for (revision, scope, id) in [(2, Session, "s"), (3, Key, "key_k"), (4, Tenant, "acme")] {
        let asked = pair.fake.asked();
        pair.source("s", None).await;
        pair.fake.invalidate(revision, scope, id);
        pair.heard(revision).await;
        pair.source("s", None).await;
        assert_eq!(pair.fake.asked(), asked + 2, "{scope:?}");
    }
}

#[tokio::test]
async fn the_service_sees_a_session_in_use_often_enough_to_slide_its_end() {
    let pair = Pair::watched().await;
    let bind = |seconds: u32| {
        let end = pair.clock.wall() + SECOND * seconds;
        pair.fake.answer_session("s", session(end));
    };
    bind(100);
    pair.source("s", None).await;
    for (revision, expected) in [(2, Source::Near), (3, Source::Near), (4, Source::Near), (5, Source::Fresh)]
    {
        pair.clock.pass(SECOND * 5 / 2);
        pair.told(revision).await;
        assert_eq!(pair.source("s", None).await, expected, "{revision}");
    }
}

#[tokio::test]
async fn no_news_can_name_a_key_presented_along_with_a_session() {
    let pair = Pair::watched().await;
    pair.fake.answer_session("s", session(pair.clock.start + 3_600 * SECOND));
    pair.source("s", Some("k")).await;
    pair.source("s", None).await;
    for revision in [2, 3] {
        pair.clock.pass(SILENCE);
        pair.told(revision).await;
    }
    assert_eq!(pair.source("s", Some("k")).await, Source::Fresh);
    assert_eq!(pair.source("s", None).await, Source::Near);
}

#[tokio::test]
async fn a_session_ended_by_this_client_is_asked_about_anew() {
    let pair = Pair::start().await;
    pair.fake.answer_session("s", session(pair.clock.start + 3_600 * SECOND));
    pair.source("s", None).await;
    assert!(pair.client.unbind_session("s", "acme").await.unwrap());
    let over = pair.client.validate_session("s", None, &[]).await.unwrap();
    assert_eq!((over.verdict, over.provenance.source), (Verdict::Unbound, Source::Fresh));
}
