//! Guarded streams of a gRPC and an HTTP server, with the real service and real connections.

use std::{convert::Infallible, net::SocketAddr, pin::Pin};

use axum::{Extension, Router, body::Body, routing::get};
use futures::{Stream, StreamExt as _, stream};
use tenant_auth_client::{AuthenticateLayer, Client, PresentedKey, Principal, proto as v1};
use tenant_auth_proto::v1::{
    watch_service_client::WatchServiceClient,
    watch_service_server::{WatchService, WatchServiceServer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Response, Status,
    metadata::MetadataValue,
    transport::{Channel, Server},
};
use tonic_types::StatusExt as _;

use crate::harness::{Service, WAIT_TIMEOUT, until};

type Events = Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

/// A service of the application with a server stream; the contract has one that serves as an example.
struct Feed(Client);

#[tonic::async_trait]
impl WatchService for Feed {
    type WatchStream = Events;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Events>, Status> {
        let principal = Principal::of(request.extensions()).ok_or_else(|| Status::internal("no layer"))?;
        let events = stream::iter([Ok(v1::WatchResponse::default())]).chain(stream::pending());
        let guarded =
            self.0.guard_grpc(principal, events).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(Box::pin(guarded)))
    }
}

async fn bind() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn watching(service: &Service) -> (Client, PresentedKey) {
    let client = service.client.clone();
    until(async || client.watch_state().is_some_and(|state| state.live)).await;
    (client, service.key().await)
}

/// Revokes the key as another process does.
async fn revoke(service: &Service, key: &PresentedKey) {
    let other = Client::builder(service.endpoint()).timeout(WAIT_TIMEOUT).connect_lazy().unwrap();
    let key_id = other.require(key, &[]).await.unwrap().key_id().to_owned();
    other.admin().revoke_key(&key_id, "test").await.unwrap();
}

#[tokio::test]
async fn grpc_stream_behind_the_layer_ends_with_the_verdict() {
    let service = Service::start().await;
    let (client, key) = watching(&service).await;
    let (listener, address) = bind().await;
    let layer = AuthenticateLayer::new(client.clone()).requires("orders:read");
    let serving = Server::builder().layer(layer).add_service(WatchServiceServer::new(Feed(client.clone())));
    tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));

    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut feed = WatchServiceClient::new(channel);
    let mut request = Request::new(v1::WatchRequest::default());
    let bearer: MetadataValue<_> = format!("Bearer {}", key.expose()).parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    let mut events = feed.watch(request).await.unwrap().into_inner();
    assert_eq!(events.message().await.unwrap(), Some(v1::WatchResponse::default()));
    assert_eq!(client.guard_count(), 1);
    revoke(&service, &key).await;
    let status = timeout(WAIT_TIMEOUT, events.message()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "REVOKED");
    until(async || client.guard_count() == 0).await;
}

async fn events(Extension(client): Extension<Client>, Extension(principal): Extension<Principal>) -> Body {
    let events = stream::iter([Ok::<_, Infallible>("data: 1\n\n")]).chain(stream::pending());
    Body::new(client.guard_sse(&principal, Body::from_stream(events)).unwrap())
}

/// Requests the events, and returns the connection after the first one.
async fn first_event(address: SocketAddr, key: &PresentedKey) -> TcpStream {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request =
        format!("GET /events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", key.expose());
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    while !received.windows(7).any(|window| window == b"data: 1") {
        assert_ne!(connection.read_buf(&mut received).await.unwrap(), 0, "{received:?}");
    }
    connection
}

#[tokio::test]
async fn event_stream_ends_with_its_tenant_and_releases_the_guards_of_readers_that_leave() {
    let service = Service::start().await;
    let (client, key) = watching(&service).await;
    let (listener, address) = bind().await;
    let app = Router::new()
        .route("/events", get(events))
        .layer(Extension(client.clone()))
        .route_layer(AuthenticateLayer::new(client.clone()));
    tokio::spawn(axum::serve(listener, app).into_future());

    let left = first_event(address, &key).await;
    let mut stayed = first_event(address, &key).await;
    assert_eq!(client.guard_count(), 2);
    drop(left);
    until(async || client.guard_count() == 1).await;
    service.admin().suspend_tenant("acme", "test").await.unwrap();
    let mut rest = Vec::new();
    // The last chunk of the response is empty.
    while !rest.ends_with(b"\r\n0\r\n\r\n") {
        assert_ne!(timeout(WAIT_TIMEOUT, stayed.read_buf(&mut rest)).await.unwrap().unwrap(), 0);
    }
    let rest = String::from_utf8(rest).unwrap();
    assert!(rest.contains("event: end\ndata: {") && rest.contains("TENANT_SUSPENDED"), "{rest}");
}
