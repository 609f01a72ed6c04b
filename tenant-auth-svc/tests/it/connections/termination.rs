//! How connections end: by age and at shutdown, and what happens to requests in flight.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use tenant_auth_proto::v1;
use tenant_auth_svc::{
    domain::clock::SystemClock,
    transport::{
        ServerConfig,
        limits::ConnectionLimits,
        tls::{Certificates, TlsFiles},
    },
};
use tenant_auth_testkit::Fault;
use tokio::net::TcpStream;

use crate::harness::{
    TestDatabase, TestService,
    frames::{NO_ERROR, PeerEnding, RawConnection},
    pki::{Authority, connect},
    settings_with_long_timeouts,
    stub_server::{
        Client, HELD_PATH, IMMEDIATE_PATH, StubServer, WAIT_TIMEOUT, post, unlimited_durations,
        until_stream_closed, wait_until,
    },
};

/// Shorter than any other limit here, and long enough for a busy machine to start a request.
const SHORT_LIMIT: Duration = Duration::from_secs(1);

async fn until_drained(host: &mut StubServer) {
    tokio::time::timeout(WAIT_TIMEOUT, host.server.wait_until_drained())
        .await
        .expect("the last connection must end");
    assert_eq!(host.connection_count(), 0);
}

/// Sends requests until the connection accepts no more.
async fn until_refused(client: &mut Client) {
    let requests = async { while client.send(IMMEDIATE_PATH).await.is_ok() {} };
    tokio::time::timeout(WAIT_TIMEOUT, requests)
        .await
        .expect("the connection must accept no further request");
}

#[tokio::test]
async fn aged_connection_drains_and_closes() {
    let host = StubServer::start(ConnectionLimits { max_age: SHORT_LIMIT, ..unlimited_durations() }).await;
    let mut client = host.client().await;
    let in_flight = client.start_request(post(HELD_PATH)).await.unwrap();
    until_refused(&mut client).await;
    assert_eq!(host.connection_count(), 1, "a request is in flight on it");
    host.release();
    assert_eq!(in_flight.await.unwrap().status(), StatusCode::OK);
    client.until_closed().await;
    wait_until(|| host.connection_count() == 0).await;
    host.client().await.send(IMMEDIATE_PATH).await.unwrap();
}

#[tokio::test]
async fn request_outliving_connection_grace_is_cut_off() {
    let host = StubServer::start(ConnectionLimits {
        max_age: SHORT_LIMIT,
        max_age_grace: SHORT_LIMIT,
        ..unlimited_durations()
    })
    .await;
    let mut client = host.client().await;
    let in_flight = client.start_request(post(HELD_PATH)).await.unwrap();
    tokio::time::timeout(WAIT_TIMEOUT, in_flight).await.expect("the request must be aborted").unwrap_err();
    wait_until(|| host.connection_count() == 0).await;
}

#[tokio::test]
async fn drain_finishes_requests_and_accepts_no_new_ones() {
    let mut host = StubServer::start(unlimited_durations()).await;
    let (mut busy, mut idle) = (host.client().await, host.client().await);
    idle.send(IMMEDIATE_PATH).await.unwrap();
    let mut by_hand = RawConnection::connect(host.address).await;
    by_hand.send().await;
    wait_until(|| host.connection_count() == 3).await;
    let in_flight = busy.start_request(post(HELD_PATH)).await.unwrap();
    // Responses may arrive in any order. This one shows that the previous request has reached the server.
    busy.send(IMMEDIATE_PATH).await.unwrap();

    host.server.drain();
    host.server.drain();
    assert_eq!(by_hand.next_ending().await, PeerEnding::GoAway(NO_ERROR), "GOAWAY without an error");
    drop(by_hand);
    idle.until_closed().await;
    let ends = async { while TcpStream::connect(host.address).await.is_ok() {} };
    tokio::time::timeout(WAIT_TIMEOUT, ends).await.expect("the listener must be closed");
    until_refused(&mut busy).await;
    wait_until(|| host.connection_count() == 1).await;
    assert!(
        futures::FutureExt::now_or_never(host.server.wait_until_drained()).is_none(),
        "a request is in flight"
    );

    host.release();
    assert_eq!(in_flight.await.unwrap().status(), StatusCode::OK);
    busy.until_closed().await;
    until_drained(&mut host).await;
}

#[tokio::test]
async fn stopping_service_answers_pending_requests() {
    let database = TestDatabase::test_server().await;
    let service =
        TestService::start_with(settings_with_long_timeouts(&database), SystemClock::shared()).await;
    let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    database.server().faults().set(Fault::Hang);
    let request = v1::ValidateKeyRequest { key, required_scopes: Vec::new(), ..Default::default() };
    let mut client = service.validation();
    let in_flight = tokio::spawn(async move { client.validate_key(request).await });
    database.server().wait_for(|counters| counters.open_requests == 1).await;

    let TestService { running, channel: _open } = service;
    let address = running.address();
    let stopping = tokio::spawn(running.stop());
    let ends = async { while TcpStream::connect(address).await.is_ok() {} };
    tokio::time::timeout(WAIT_TIMEOUT, ends).await.expect("the listener must be closed");
    database.server().faults().clear();
    let answer = in_flight.await.unwrap().unwrap().into_inner();
    assert_eq!(answer.verdict(), v1::Verdict::Valid);
    tokio::time::timeout(WAIT_TIMEOUT, stopping)
        .await
        .expect("the server must stop after the last request")
        .unwrap();
}

#[tokio::test]
async fn dropped_server_closes_all_connections() {
    let host = StubServer::start(unlimited_durations()).await;
    let mut client = host.client().await;
    let in_flight = client.start_request(post(HELD_PATH)).await.unwrap();
    client.send(IMMEDIATE_PATH).await.unwrap();
    let StubServer { server, release, .. } = host;
    drop(server);
    tokio::time::timeout(WAIT_TIMEOUT, in_flight).await.expect("the request must be aborted").unwrap_err();
    drop(release);
}

/// Starts a server with TLS.
async fn start_encrypted(authority: &Authority, limits: ConnectionLimits) -> StubServer {
    let files = authority.server_certificate().write();
    let (certificate, key) = (files.certificate().into(), files.key().into());
    let config = TlsFiles { certificate, key, client_ca: None }.load().unwrap();
    let config_of_server = ServerConfig { workers: 2, max_connections: 1_000, limits };
    StubServer::start_with(config_of_server, Some(Arc::new(Certificates::new(config)))).await
}

#[tokio::test]
async fn stalled_tls_handshake_times_out() {
    let authority = Authority::new();
    let host = start_encrypted(
        &authority,
        ConnectionLimits { handshake_timeout: SHORT_LIMIT, ..unlimited_durations() },
    )
    .await;
    until_stream_closed(TcpStream::connect(host.address).await.unwrap()).await;
    // A completed TLS handshake is not yet an HTTP/2 preface, so the same timeout applies.
    until_stream_closed(connect(host.address, &authority.connector(None)).await.unwrap()).await;
    wait_until(|| host.connection_count() == 0).await;
}

#[tokio::test]
async fn drain_does_not_wait_for_tls_handshake() {
    let authority = Authority::new();
    let mut host = start_encrypted(&authority, unlimited_durations()).await;
    let stream = connect(host.address, &authority.connector(None)).await.unwrap();
    let mut client = Client::connect_over(stream).await.unwrap();
    client.send(IMMEDIATE_PATH).await.unwrap();
    let silent = TcpStream::connect(host.address).await.unwrap();
    wait_until(|| host.connection_count() == 2).await;
    host.server.drain();
    until_stream_closed(silent).await;
    client.until_closed().await;
    until_drained(&mut host).await;
}
