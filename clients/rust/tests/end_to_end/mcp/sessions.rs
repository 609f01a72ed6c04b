//! Sessions, and headers that do not agree with the body, with the real service and the server of the example.

use axum::body::Body;
use http::StatusCode;
use http_body_util::BodyExt as _;
use tenant_auth_client::Verdict;

use super::{Shop, call, json_of, post, request};
use crate::harness::{until, usage_sum};

#[tokio::test]
async fn session_is_of_its_tenant_and_survives_other_keys_of_it() {
    let shop = Shop::open().await;
    let id = shop.open_session(&shop.reader).await;
    let session = [("mcp-session-id", id.as_str()), ("mcp-protocol-version", "2025-11-25")];
    for (key, status) in [
        (&shop.reader, StatusCode::OK),
        (&shop.writer, StatusCode::OK),
        (&shop.foreign, StatusCode::NOT_FOUND),
    ] {
        let response = shop.send(post(key, &session, &call("list_orders"))).await;
        assert_eq!(response.status(), status);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(str::from_utf8(&body).unwrap().contains("orders of acme"), status == StatusCode::OK);
    }
    let listening = request("GET", &shop.foreign, &session).body(Body::empty()).unwrap();
    assert_eq!(shop.send(listening).await.status(), 404);

    let ending = |key| request("DELETE", key, &session).body(Body::empty()).unwrap();
    assert_eq!(shop.send(ending(&shop.foreign)).await.status(), 404);
    assert!(shop.send(ending(&shop.reader)).await.status().is_success());
    let unbound = shop.service.client.validate_session(&id, None, &[]).await.unwrap();
    assert_eq!(unbound.verdict, Verdict::Unbound);
    assert_eq!(shop.send(post(&shop.reader, &session, &call("list_orders"))).await.status(), 404);
}

#[tokio::test]
async fn revoked_key_that_opened_a_session_ends_it() {
    let shop = Shop::open().await;
    let id = shop.open_session(&shop.reader).await;
    let key_id = shop.principal(&shop.reader).await.key_id().to_owned();
    shop.service.admin().revoke_key(&key_id, "test").await.unwrap();
    let session = [("mcp-session-id", id.as_str())];
    let response = shop.send(post(&shop.writer, &session, &call("list_orders"))).await;
    assert_eq!(response.status(), 404);
    assert_eq!(json_of(response).await["code"], "REVOKED");
}

#[tokio::test]
async fn mismatch_of_headers_and_body_never_runs_a_tool() {
    let shop = Shop::open().await;
    let stateless =
        |name| [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", name)];
    let mut message = call("refund_order");
    let meta = serde_json::json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    message["params"]["_meta"] = meta;
    for key in [&shop.reader, &shop.writer] {
        let response = shop.send(post(key, &stateless("list_orders"), &message)).await;
        assert_eq!(response.status(), 400);
        let error = json_of(response).await;
        assert_eq!((&error["error"]["code"], &error["id"]), (&(-32_020).into(), &2.into()));
    }
    let response = shop.send(post(&shop.writer, &stateless("refund_order"), &message)).await;
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(str::from_utf8(&body).unwrap().contains("refunded order 1 of acme"), "{body:?}");
    shop.recorder.flush().await.unwrap();
    until(async || usage_sum(&shop.service.client, "acme").await == Ok(1)).await;
}

#[tokio::test]
async fn client_that_lies_about_its_revision_reaches_no_session() {
    let shop = Shop::open().await;
    let id = shop.open_session(&shop.reader).await;
    for version in ["2026-07-28", "latest"] {
        let headers = [("mcp-session-id", id.as_str()), ("mcp-protocol-version", version)];
        let listening = request("GET", &shop.foreign, &headers).body(Body::empty()).unwrap();
        assert!(shop.send(listening).await.status().is_client_error(), "{version}");
        let ending = request("DELETE", &shop.foreign, &headers).body(Body::empty()).unwrap();
        assert!(shop.send(ending).await.status().is_client_error(), "{version}");
    }
    let session = [("mcp-session-id", id.as_str())];
    assert_eq!(shop.send(post(&shop.reader, &session, &call("list_orders"))).await.status(), 200);
}
