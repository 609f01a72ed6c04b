//! Changes by one client invalidate the near-cache of another.

use tenant_auth_client::{BindSession, Client, Source, Verdict};

use crate::harness::{Service, WAIT_TIMEOUT, until};

#[tokio::test]
async fn revocation_applies_as_soon_as_it_is_streamed() {
    let service = Service::start().await;
    let (key, watching) = (service.key().await, &service.client);
    let other = Client::builder(service.endpoint()).without_near_cache().timeout(WAIT_TIMEOUT).connect_lazy();
    let other = other.unwrap();
    assert!(other.bind_session(BindSession::new("s", WAIT_TIMEOUT), &key).await.unwrap().verdict.is_valid());
    until(async || watching.watch_state().is_some_and(|state| state.live)).await;

    let first = watching.validate(&key, &["orders:read"]).await.unwrap();
    assert_ne!(first.provenance.source, Source::Near);
    let again = watching.validate(&key, &["orders:read"]).await.unwrap();
    assert_eq!((again.verdict, again.provenance.source), (Verdict::Valid, Source::Near));
    assert!(watching.validate_session("s", None, &[]).await.unwrap().is_valid());

    other.admin().revoke_key(first.subject.key_id(), "test").await.unwrap();
    let revoked = other.validate(&key, &[]).await.unwrap();
    assert_eq!(revoked.verdict, Verdict::Revoked);
    let revoked_at_revision = revoked.provenance.revision;
    assert!(revoked_at_revision > first.provenance.revision);
    until(async || watching.watch_state().is_some_and(|state| state.revision >= revoked_at_revision)).await;
    assert_eq!(watching.validate(&key, &[]).await.unwrap().verdict, Verdict::Revoked);
    let session = watching.validate_session("s", None, &[]).await.unwrap();
    assert!(!session.is_valid(), "{session:?}");
}

#[tokio::test]
async fn own_suspension_applies_at_once() {
    let service = Service::start().await;
    let (client, key) = (&service.client, service.key().await);
    assert!(client.validate(&key, &[]).await.unwrap().is_valid());
    service.admin().suspend_tenant("acme", "test").await.unwrap();
    assert_eq!(client.validate(&key, &[]).await.unwrap().verdict, Verdict::TenantSuspended);
    service.admin().resume_tenant("acme").await.unwrap();
    assert!(client.validate(&key, &[]).await.unwrap().is_valid());
}
