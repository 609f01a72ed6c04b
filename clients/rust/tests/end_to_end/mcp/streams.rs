//! Streams that end when their key may no longer be used, with the real service.
#![allow(clippy::print_stdout)]

use std::{net::SocketAddr, time::Instant};

use axum::{Router, body::Body};
use http_body_util::BodyExt as _;
use serde_json::json;
use tenant_auth_client::{Client, PresentedKey, RecorderSettings, UsageRecorder};
use tenant_auth_svc::server::RunningService;
use tenant_auth_testkit::HranaServer;
use tokio::time::timeout;
use tower::ServiceExt as _;

use super::{Shop, app, create_tenant, initialize, issue_key, post, request};
use crate::harness::{Stopped, WAIT_TIMEOUT, until};

/// Opens a stream that listens to a session of its own.
async fn listening(router: &Router, key: &PresentedKey) -> Body {
    let response = router.clone().oneshot(post(key, &[], &initialize())).await.unwrap();
    let id = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    response.into_body().collect().await.unwrap();
    let session = [("mcp-session-id", id.as_str())];
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(router.clone().oneshot(post(key, &session, &initialized)).await.unwrap().status(), 202);
    let listening = request("GET", key, &session).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(listening).await.unwrap();
    assert_eq!(response.status(), 200);
    response.into_body()
}

/// Opens a stream of the revision 2026-07-28, and returns it after its first event.
async fn subscribed(router: &Router, key: &PresentedKey) -> Body {
    let message = json!({"jsonrpc": "2.0", "id": "listen-1", "method": "subscriptions/listen", "params": {
        "notifications": {"toolsListChanged": true},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    }});
    let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "subscriptions/listen")];
    let response = router.clone().oneshot(post(key, &headers, &message)).await.unwrap();
    assert_eq!(response.status(), 200);
    response.into_body()
}

async fn end_of(body: Body) -> String {
    let rest = timeout(WAIT_TIMEOUT, body.collect()).await.unwrap().unwrap().to_bytes();
    String::from_utf8(rest.to_vec()).unwrap()
}

async fn client_of(replica: &RunningService) -> Client {
    let endpoint = format!("http://{}", replica.address());
    let client = Client::builder(endpoint).timeout(WAIT_TIMEOUT).connect().await.unwrap();
    until(async || client.watch_state().is_some_and(|state| state.live)).await;
    client
}

#[tokio::test]
async fn revocation_ends_streams_on_every_replica() {
    let database = HranaServer::builder().start().await.unwrap();
    let url = database.url();
    let settings = [("TENANT_AUTH_DATABASE_URL", url.as_str())];
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (first, _first_folder) = Stopped::new(any).start_with(&settings).await;
    let (second, _second_folder) = Stopped::new(any).start_with(&settings).await;
    let (one, two) = (client_of(&first).await, client_of(&second).await);
    create_tenant(&one, "acme").await;
    let key = issue_key(&one, "acme", &["orders:read"]).await;
    until(async || two.validate(&key, &[]).await.is_ok_and(|answer| answer.is_valid())).await;

    let mut streams = Vec::new();
    for client in [&one, &two] {
        let recorder = UsageRecorder::start(client.clone(), RecorderSettings::new()).unwrap();
        let layer = app::layer(client.clone(), recorder, app::policy().unwrap()).unwrap();
        let router = app::serve(|| app::Orders).layer(layer);
        streams.push(listening(&router, &key).await);
        streams.push(subscribed(&router, &key).await);
    }
    let key_id = one.require(&key, &[]).await.unwrap().key_id().to_owned();
    let started = Instant::now();
    one.admin().revoke_key(&key_id, "test").await.unwrap();
    for (index, stream) in streams.into_iter().enumerate() {
        let end = end_of(stream).await;
        println!("stream {index} ended {:?} after the revocation began", started.elapsed());
        let is_answer = index % 2 == 1;
        assert_eq!(end.contains(r#""id":"listen-1","error""#), is_answer, "{end}");
        assert_eq!(end.contains(r#""code":"REVOKED""#), is_answer, "{end}");
    }
    assert_eq!((one.guard_count(), two.guard_count()), (0, 0));
    for replica in [first, second] {
        replica.stop().await;
    }
}

#[tokio::test]
async fn stream_outlives_a_restart_of_the_service_and_ends_with_a_later_revocation() {
    let shop = Shop::open().await;
    let client = shop.service.client.clone();
    until(async || client.watch_state().is_some_and(|state| state.live)).await;
    let key_id = shop.principal(&shop.reader).await.key_id().to_owned();
    let stream = listening(&shop.router, &shop.reader).await;
    let service = shop.service.stop().await.start().await;
    assert_eq!(client.guard_count(), 1);
    // Another process revokes the key.
    service.admin().revoke_key(&key_id, "test").await.unwrap();
    let end = end_of(stream).await;
    assert!(!end.contains("error"), "{end}");
    assert_eq!(client.guard_count(), 0);
}
