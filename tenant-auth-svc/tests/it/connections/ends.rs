//! How connections end: by age, by the server's end, and what becomes of requests that are under way.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use tenant_auth_proto::v1;
use tenant_auth_svc::{
    domain::clock::SystemClock,
    transport::{
        ServerConfig,
        limits::Limits,
        tls::{Certificates, TlsFiles},
    },
};
use tenant_auth_testkit::Fault;
use tokio::net::TcpStream;

use super::{AT_ONCE, Client, HELD, Host, PATIENCE, closed, patient, post, until};
use crate::{
    cache,
    frames::{Frames, NO_ERROR, Said},
    harness::{Database, Service},
    pki::{Authority, connect},
};

/// Sooner than anything else ends a connection here, and late enough for a busy machine to begin a request.
const SOON: Duration = Duration::from_secs(1);

async fn drained(host: &mut Host) {
    tokio::time::timeout(PATIENCE, host.server.drained()).await.expect("the last one has ended");
    assert_eq!(host.live(), 0);
}

/// Asks until the connection takes nothing more.
async fn refused(client: &mut Client) {
    let asking = async { while client.ask(AT_ONCE).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, asking).await.expect("it takes nothing more");
}

#[tokio::test]
async fn an_old_connection_takes_nothing_new_and_ends_with_its_last_request() {
    let host = Host::start(Limits { age: SOON, ..patient() }).await;
    let mut client = host.client().await;
    let under_way = client.begin(post(HELD)).await.unwrap();
    refused(&mut client).await;
    assert_eq!(host.live(), 1, "a request is under way on it");
    host.release();
    assert_eq!(under_way.await.unwrap().status(), StatusCode::OK);
    client.ended().await;
    until(|| host.live() == 0).await;
    host.client().await.ask(AT_ONCE).await.unwrap();
}

#[tokio::test]
async fn a_request_that_outlives_the_grace_is_cut_off() {
    let host = Host::start(Limits { age: SOON, age_grace: SOON, ..patient() }).await;
    let mut client = host.client().await;
    let under_way = client.begin(post(HELD)).await.unwrap();
    tokio::time::timeout(PATIENCE, under_way).await.expect("it is cut off").unwrap_err();
    until(|| host.live() == 0).await;
}

#[tokio::test]
async fn a_drain_lets_requests_end_and_takes_nothing_new() {
    let mut host = Host::start(patient()).await;
    let (mut busy, mut idle) = (host.client().await, host.client().await);
    idle.ask(AT_ONCE).await.unwrap();
    let mut by_hand = Frames::connect(host.address).await;
    by_hand.send().await;
    until(|| host.live() == 3).await;
    let under_way = busy.begin(post(HELD)).await.unwrap();
    // Answers come in any order: this one says that the one before it has arrived.
    busy.ask(AT_ONCE).await.unwrap();

    host.server.drain();
    host.server.drain();
    assert_eq!(by_hand.said().await, Said::GoAway(NO_ERROR), "in order");
    drop(by_hand);
    idle.ended().await;
    let ends = async { while TcpStream::connect(host.address).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, ends).await.expect("nobody listens");
    refused(&mut busy).await;
    until(|| host.live() == 1).await;
    assert!(futures::FutureExt::now_or_never(host.server.drained()).is_none(), "a request is under way");

    host.release();
    assert_eq!(under_way.await.unwrap().status(), StatusCode::OK);
    busy.ended().await;
    drained(&mut host).await;
}

#[tokio::test]
async fn a_service_told_to_stop_answers_what_it_was_asked() {
    let database = Database::test_server().await;
    let service = Service::start_with(cache::patient(&database), SystemClock::shared()).await;
    let (key, _) = service.key(&service.tenant("Acme").await, &[]).await;
    database.server().faults().set(Fault::Hang);
    let request = v1::ValidateKeyRequest { key, required_scopes: Vec::new() };
    let mut client = service.validation();
    let under_way = tokio::spawn(async move { client.validate_key(request).await });
    database.server().wait_for(|counters| counters.open_requests == 1).await;

    let Service { running, channel: _open } = service;
    let address = running.address();
    let stopping = tokio::spawn(running.stop());
    let ends = async { while TcpStream::connect(address).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, ends).await.expect("nobody listens");
    database.server().faults().clear();
    let answer = under_way.await.unwrap().unwrap().into_inner();
    assert_eq!(answer.verdict(), v1::Verdict::Valid);
    tokio::time::timeout(PATIENCE, stopping).await.expect("that was the last one").unwrap();
}

#[tokio::test]
async fn a_server_that_is_dropped_cuts_everything_off() {
    let host = Host::start(patient()).await;
    let mut client = host.client().await;
    let under_way = client.begin(post(HELD)).await.unwrap();
    client.ask(AT_ONCE).await.unwrap();
    let Host { server, released, .. } = host;
    drop(server);
    tokio::time::timeout(PATIENCE, under_way).await.expect("it is cut off").unwrap_err();
    drop(released);
}

/// An encrypted one.
async fn encrypted(authority: &Authority, limits: Limits) -> Host {
    let files = authority.server().write();
    let (certificate, key) = (files.certificate().into(), files.key().into());
    let config = TlsFiles { certificate, key, client_ca: None }.load().unwrap();
    let config_of_server = ServerConfig { workers: 2, max_connections: 1_000, limits };
    Host::start_with(config_of_server, Some(Arc::new(Certificates::new(config)))).await
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_ended() {
    let authority = Authority::new();
    let host = encrypted(&authority, Limits { greeting: SOON, ..patient() }).await;
    closed(TcpStream::connect(host.address).await.unwrap()).await;
    // One that ends is nothing said yet.
    closed(connect(host.address, &authority.connector(None)).await.unwrap()).await;
    until(|| host.live() == 0).await;
}

#[tokio::test]
async fn a_drain_waits_for_no_handshake() {
    let authority = Authority::new();
    let mut host = encrypted(&authority, patient()).await;
    let stream = connect(host.address, &authority.connector(None)).await.unwrap();
    let mut client = Client::over(stream).await.unwrap();
    client.ask(AT_ONCE).await.unwrap();
    let silent = TcpStream::connect(host.address).await.unwrap();
    until(|| host.live() == 2).await;
    host.server.drain();
    closed(silent).await;
    client.ended().await;
    drained(&mut host).await;
}
