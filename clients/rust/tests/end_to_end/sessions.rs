//! The lifecycle of sessions.

use std::time::Duration;

use futures::TryStreamExt as _;
use tenant_auth_client::{BindSession, Error, PresentedKey, Verdict};

use crate::harness::Service;

#[tokio::test]
async fn session_lifecycle_works_end_to_end() {
    let service = Service::start().await;
    let (client, key) = (&service.client, service.key().await);
    let hour = Duration::from_secs(3_600);
    let session = |id: &str| BindSession::new(id, hour).sliding().attribute("client", "desktop");
    let bound = client.bind_session(session("s-0"), &key).await.unwrap();
    assert_eq!((bound.verdict, bound.already_bound), (Verdict::Valid, false));
    let bound = bound.session.unwrap();
    assert_eq!((bound.session_id.as_str(), bound.tenant_id.as_str()), ("s-0", "acme"));
    assert_eq!(bound.expires_at.duration_since(bound.created_at).unwrap(), hour);
    assert!(client.bind_session(session("s-0"), &key).await.unwrap().already_bound);

    let validation = client.validate_session("s-0", Some(&key), &["orders:read"]).await.unwrap();
    assert!(validation.is_valid());
    assert_eq!(validation.subject.attributes()["client"], "desktop");
    let denied = client.validate_session("s-0", None, &["orders:write"]).await.unwrap();
    assert_eq!(denied.missing_scopes, ["orders:write"]);
    let unknown_key = PresentedKey::new("some-strange-key");
    let denied_binding = client.bind_session(session("s-9"), &unknown_key).await.unwrap();
    assert_eq!((denied_binding.verdict, denied_binding.session), (Verdict::Unknown, None));

    // More than one page of the stream.
    for number in 1..=501 {
        let bound = client.bind_session(session(&format!("s-{number}")), &key).await.unwrap();
        assert!(bound.verdict.is_valid());
    }
    let sessions: Vec<_> = client.list_sessions("acme").try_collect().await.unwrap();
    assert_eq!(sessions.len(), 502);
    let page = client.list_sessions_page("acme", 2, String::new()).await.unwrap();
    assert_eq!(page.sessions, sessions[..2]);
    let bad: Result<Vec<_>, _> = client.list_sessions("not a tenant").try_collect().await;
    assert!(matches!(bad, Err(Error::Invalid { .. })), "{bad:?}");

    let unbinding = client.unbind_session("s-0", "acme").await.unwrap();
    assert!(unbinding.was_bound && unbinding.revision > 0);
    let applied = client.wait_for_revision(unbinding.revision, Duration::from_secs(5)).await.unwrap();
    assert!(applied.applied);
    assert!(!client.unbind_session("s-0", "acme").await.unwrap().was_bound);
    let unbound = client.validate_session("s-0", None, &[]).await.unwrap();
    assert_eq!((unbound.verdict, unbound.subject.tenant_id()), (Verdict::Unbound, ""));
}
