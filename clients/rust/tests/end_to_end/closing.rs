//! A closed client.

use futures::TryStreamExt as _;
use tenant_auth_client::{Client, Error, KeyQuery, PresentedKey, proto};
use tenant_auth_proto::v1::info_service_client::InfoServiceClient;

use crate::harness::{Service, WAIT_TIMEOUT};

#[tokio::test]
async fn closed_client_rejects_new_calls_only() {
    let service = Service::start().await;
    let (client, key) = (service.client.clone(), service.key().await);
    client.require(&key, &[]).await.unwrap();
    // In flight: the call starts before the close, and is answered after it.
    let unknown = PresentedKey::new("some-strange-key");
    let mut in_flight = Box::pin(client.validate(&unknown, &[]));
    assert!(futures::poll!(in_flight.as_mut()).is_pending());
    client.close();
    client.clone().close();
    assert!(!in_flight.await.unwrap().is_valid());

    let closed = Error::Closed;
    // Even cached answers are not returned.
    assert_eq!(client.validate(&key, &[]).await.unwrap_err(), closed);
    assert_eq!(client.validate_session("s", None, &[]).await.unwrap_err(), closed);
    let batch = [KeyQuery::new(PresentedKey::new("x"))];
    assert_eq!(client.validate_batch(&batch).await.unwrap_err(), closed);
    assert_eq!(client.validate_stream(futures::stream::empty()).await.unwrap_err(), closed);
    assert_eq!(client.unbind_session("s", "acme").await.unwrap_err(), closed);
    assert_eq!(client.list_sessions("acme").try_collect::<Vec<_>>().await.unwrap_err(), closed);
    assert_eq!(client.record_usage("r", Vec::new()).await.unwrap_err(), closed);
    assert_eq!(client.admin().revoke_key("k", "r").await.unwrap_err(), closed);
    let raw =
        InfoServiceClient::new(client.transport()).get_server_info(proto::GetServerInfoRequest {}).await;
    assert_eq!(Error::from(raw.unwrap_err()), closed);
    // Another client of the same service is not affected.
    let other = Client::builder(service.endpoint()).timeout(WAIT_TIMEOUT).connect_lazy().unwrap();
    other.require(&key, &[]).await.unwrap();
}
