//! Changes by a client invalidate its own near-cache.

use tenant_auth_client::{
    BindSession, Client, Error, ImportedKey, NearCache, PresentedKey, Source, Verdict, proto,
};
use tenant_auth_proto::v1::{
    admin_service_client::AdminServiceClient, session_service_client::SessionServiceClient,
};

use crate::harness::{Service, WAIT_TIMEOUT};

/// Returns a client without the invalidation stream.
fn unwatched_client(service: &Service) -> Client {
    let builder =
        Client::builder(service.endpoint()).near_cache(NearCache::new().unwatched()).timeout(WAIT_TIMEOUT);
    builder.connect_lazy().unwrap()
}

async fn source(client: &Client, key: &PresentedKey) -> Source {
    client.validate(key, &[]).await.unwrap().provenance.source
}

#[tokio::test]
async fn raw_transport_changes_invalidate_at_once() {
    let service = Service::start().await;
    let (client, key) = (unwatched_client(&service), service.key().await);
    let key_id = client.require(&key, &[]).await.unwrap().key_id().to_owned();
    assert_eq!(source(&client, &key).await, Source::Near);
    let bound = client.bind_session(BindSession::new("s", WAIT_TIMEOUT), &key).await.unwrap();
    assert!(bound.verdict.is_valid());
    client.require_session("s", None, &[]).await.unwrap();

    let unbind = proto::UnbindSessionRequest {
        session_id: "s".to_owned(),
        tenant_id: "acme".to_owned(),
        reason: String::new(),
    };
    SessionServiceClient::new(client.transport()).unbind_session(unbind).await.unwrap();
    assert_eq!(client.validate_session("s", None, &[]).await.unwrap().verdict, Verdict::Unbound);
    client.require(&key, &[]).await.unwrap();
    let list = proto::ListKeysRequest { tenant_id: "acme".to_owned(), ..Default::default() };
    AdminServiceClient::new(client.transport()).list_keys(list).await.unwrap();
    assert_eq!(source(&client, &key).await, Source::Near);
    let revoke = proto::RevokeKeyRequest { key_id, reason: "test".to_owned() };
    AdminServiceClient::new(client.transport()).revoke_key(revoke).await.unwrap();
    assert_eq!(client.validate(&key, &[]).await.unwrap().verdict, Verdict::Revoked);
}

#[tokio::test]
async fn accepting_the_database_clears_the_cache() {
    let service = Service::start().await;
    let (client, key) = (unwatched_client(&service), service.key().await);
    client.require(&key, &[]).await.unwrap();
    assert_eq!(source(&client, &key).await, Source::Near);
    client.admin().accept_database("test").await.unwrap();
    assert_ne!(source(&client, &key).await, Source::Near);
}

#[tokio::test]
async fn failed_or_cancelled_change_invalidates_too() {
    let service = Service::start().await;
    let (client, key) = (unwatched_client(&service), service.key().await);
    let key_id = client.require(&key, &[]).await.unwrap().key_id().to_owned();
    assert_eq!(source(&client, &key).await, Source::Near);
    let failed = client.admin().revoke_key(&key_id, &"long ".repeat(10_000)).await;
    assert!(matches!(failed, Err(Error::Invalid { .. })), "{failed:?}");
    assert_ne!(source(&client, &key).await, Source::Near);
    let admin = client.admin();
    let mut cancelled = Box::pin(admin.revoke_key(&key_id, "test"));
    assert!(futures::poll!(cancelled.as_mut()).is_pending());
    drop(cancelled);
    assert_ne!(source(&client, &key).await, Source::Near);
    // Entries about other subjects stay.
    client.require(&key, &[]).await.ok();
    let cached = source(&client, &key).await;
    client.admin().resume_tenant("acme-2").await.unwrap_err();
    assert_eq!((cached, source(&client, &key).await), (Source::Near, Source::Near));
}

#[tokio::test]
async fn import_invalidates_negative_entries() {
    use sha2::{Digest as _, Sha256};

    let service = Service::start().await;
    let (client, _key) = (unwatched_client(&service), service.key().await);
    let legacy = PresentedKey::new("a-key-from-somewhere-else");
    assert_eq!(client.validate(&legacy, &[]).await.unwrap().verdict, Verdict::Unknown);
    let import = proto::ImportKey {
        tenant_id: "acme".to_owned(),
        sha256: Sha256::digest(legacy.expose()).to_vec(),
        ..Default::default()
    };
    let outcomes = client.admin().import_keys(vec![import]).await.unwrap();
    assert!(matches!(outcomes[..], [Ok(ImportedKey::New { .. })]), "{outcomes:?}");
    let again = client.validate(&legacy, &[]).await.unwrap();
    assert_ne!(again.provenance.source, Source::Near);
}
