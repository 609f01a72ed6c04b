//! A client that was closed.

use futures::TryStreamExt as _;
use tenant_auth_client::{Client, Error, PresentedKey, Question, proto};
use tenant_auth_proto::v1::info_service_client::InfoServiceClient;

use super::{Service, WAIT_TIMEOUT};

#[tokio::test]
async fn closed_client_rejects_new_calls_only() {
    let service = Service::start().await;
    let (client, key) = (service.client.clone(), service.key().await);
    client.require(&key, &[]).await.unwrap();
    // Under way: it was begun before, and is answered after.
    let strange = PresentedKey::new("some-strange-key");
    let mut under_way = Box::pin(client.validate(&strange, &[]));
    assert!(futures::poll!(under_way.as_mut()).is_pending());
    client.close();
    client.clone().close();
    assert!(!under_way.await.unwrap().is_valid());

    let closed = Error::Closed;
    // Not even what is known is told.
    assert_eq!(client.validate(&key, &[]).await.unwrap_err(), closed);
    assert_eq!(client.validate_session("s", None, &[]).await.unwrap_err(), closed);
    let batch = [Question::new(PresentedKey::new("x"))];
    assert_eq!(client.validate_batch(&batch).await.unwrap_err(), closed);
    assert_eq!(client.validate_stream(futures::stream::empty()).await.unwrap_err(), closed);
    assert_eq!(client.unbind_session("s", "acme").await.unwrap_err(), closed);
    assert_eq!(client.list_sessions("acme").try_collect::<Vec<_>>().await.unwrap_err(), closed);
    assert_eq!(client.record_usage("r", Vec::new()).await.unwrap_err(), closed);
    assert_eq!(client.admin().revoke_key("k", "r").await.unwrap_err(), closed);
    let raw =
        InfoServiceClient::new(client.transport()).get_server_info(proto::GetServerInfoRequest {}).await;
    assert_eq!(Error::from(raw.unwrap_err()), closed);
    // Another client of the same service is none the worse.
    let other = Client::builder(service.endpoint()).timeout(WAIT_TIMEOUT).connect_lazy().unwrap();
    other.require(&key, &[]).await.unwrap();
}
