//! What the layer does to responses: filtered lists, and guarded streams.

use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tenant_auth_client::{McpLayer, McpPolicy, McpRule, proto as v1};
use tokio::time::timeout;

use super::{Received, Server, answer, open_stream, request};
use crate::harness::{
    Pair, SECOND,
    server::{provenance, session, valid},
};

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
const CALL: &str = r#"{"jsonrpc":"2.0","id":"a-1","method":"tools/call","params":{"name":"read"}}"#;
const TOOLS: &str =
    r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"write"},{"name":"read"}],"cacheScope":"public"}}"#;
const FILTERED: &str =
    r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"read"}],"cacheScope":"private"}}"#;

fn policy() -> McpPolicy {
    McpPolicy::new()
        .tool("read", McpRule::new().scope("orders:read"))
        .tool("write", McpRule::new().scope("orders:write"))
}

async fn pair() -> Pair {
    let pair = Pair::watched().await;
    pair.fake.answer("k", valid("k"));
    pair
}

impl Pair {
    /// Revokes the key `k`.
    fn revoke(&self) {
        let verdict = v1::Verdict::Revoked.into();
        let revoked = v1::ValidateKeyResponse { verdict, provenance: Some(provenance(2)), ..valid("k") };
        self.fake.answer("k", revoked);
        self.fake.invalidate(2, v1::InvalidationScope::Key, "key_k");
    }
}

impl Received {
    /// Reads frames until the body has an end, with a timeout for a busy machine.
    async fn rest(self) -> String {
        let collected = timeout(SECOND * 60, self.response.into_body().collect()).await.unwrap();
        String::from_utf8(collected.unwrap().to_bytes().to_vec()).unwrap()
    }
}

#[tokio::test]
async fn lists_contain_only_what_the_key_may_use_as_json_and_as_events() {
    let pair = pair().await;
    let layer = McpLayer::builder(pair.client.clone()).policy(policy()).build().unwrap();
    let server = Server::new(|parts| {
        assert!(!parts.headers.contains_key("accept-encoding"), "a compressed list cannot be filtered");
        let mut answer = answer("application/json; charset=utf-8", TOOLS);
        answer.headers_mut().insert("content-length", TOOLS.len().into());
        answer
    });
    let received = server.send(&layer, request("POST", &[("accept-encoding", "gzip")], LIST)).await;
    assert_eq!(received.header("content-length"), Some(FILTERED.len().to_string().as_str()));
    assert_eq!(received.text().await, FILTERED);

    let events = format!(": ping\n\nid: 7\ndata: {TOOLS}\n\n");
    let server = Server::new(move |_| answer("text/event-stream", &events));
    let expected = format!(": ping\n\nid: 7\ndata: {FILTERED}\n\n");
    assert_eq!(server.send(&layer, request("POST", &[], LIST)).await.text().await, expected);
    let stateless = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/list")];
    assert_eq!(server.send(&layer, request("POST", &stateless, LIST)).await.text().await, expected);
    // A resumed stream repeats the responses to earlier requests.
    pair.fake.answer_session("s", session());
    let resumed = [("mcp-session-id", "s"), ("last-event-id", "6")];
    assert_eq!(server.send(&layer, request("GET", &resumed, "")).await.text().await, expected);
}

#[tokio::test]
async fn list_that_cannot_be_filtered_is_not_passed_on() {
    let pair = pair().await;
    let layer = McpLayer::builder(pair.client.clone()).policy(policy()).build().unwrap();
    let server = Server::new(|_| {
        let mut answer = answer("application/json", TOOLS);
        answer.headers_mut().insert("content-encoding", http::HeaderValue::from_static("gzip"));
        answer
    });
    assert_eq!(server.send(&layer, request("POST", &[], LIST)).await.status(), 503);
    assert_eq!(server.send(&layer, request("POST", &[], CALL)).await.status(), 200);
}

#[tokio::test]
async fn other_responses_and_unfiltered_lists_are_untouched() {
    let pair = pair().await;
    let filtering = McpLayer::builder(pair.client.clone()).policy(policy()).build().unwrap();
    let plain = McpLayer::builder(pair.client.clone()).policy(policy()).filter_lists(false).build().unwrap();
    let server = Server::new(|_| answer("application/json", TOOLS));
    assert_eq!(server.send(&plain, request("POST", &[], LIST)).await.text().await, TOOLS);
    assert_eq!(server.send(&filtering, request("POST", &[], CALL)).await.text().await, TOOLS);
}

#[tokio::test]
async fn answering_stream_ends_with_an_error_for_its_request() {
    for with_policy in [true, false] {
        let pair = pair().await;
        let builder = McpLayer::builder(pair.client.clone());
        let builder = if with_policy { builder.policy(policy()) } else { builder };
        let layer = builder.build().unwrap();
        let server = Server::new(|_| open_stream("data: 1\n\n"));
        let received = server.send(&layer, request("POST", &[], CALL)).await;
        assert_eq!(pair.client.guard_count(), 1);
        pair.revoke();
        let rest = received.rest().await;
        let data = rest.strip_prefix("data: 1\n\nevent: message\ndata: ").unwrap();
        let error: Value = serde_json::from_str(data).unwrap();
        assert_eq!((&error["jsonrpc"], &error["id"]), (&json!("2.0"), &json!("a-1")));
        assert_eq!(error["error"]["code"], -32_001);
        assert_eq!(error["error"]["data"], json!({"code": "REVOKED"}));
        assert!(error["error"]["message"].is_string());
        assert_eq!(pair.client.guard_count(), 0);
    }
}

#[tokio::test]
async fn listening_stream_just_ends_and_the_next_request_is_rejected() {
    let pair = pair().await;
    pair.fake.answer_session("s", session());
    let layer = McpLayer::builder(pair.client.clone()).build().unwrap();
    let server = Server::new(|_| open_stream(": open\n\n"));
    let listening = || request("GET", &[("mcp-session-id", "s")], "");
    let received = server.send(&layer, listening()).await;
    pair.revoke();
    assert_eq!(received.rest().await, ": open\n\n");
    assert_eq!(server.send(&layer, listening()).await.status(), 401);
}

#[tokio::test]
async fn revocation_of_the_key_that_opened_a_session_ends_the_streams_of_others() {
    let pair = pair().await;
    let opened = v1::ValidateSessionResponse { key_id: "key_opener".to_owned(), ..session() };
    pair.fake.answer_session("s", opened.clone());
    let layer = McpLayer::builder(pair.client.clone()).build().unwrap();
    let server = Server::new(|_| open_stream(": open\n\n"));
    let received = server.send(&layer, request("GET", &[("mcp-session-id", "s")], "")).await;
    let revoked = v1::ValidateSessionResponse {
        verdict: v1::Verdict::Revoked.into(),
        provenance: Some(provenance(2)),
        ..opened
    };
    pair.fake.answer_session("s", revoked);
    pair.fake.invalidate(2, v1::InvalidationScope::Key, "key_opener");
    assert_eq!(received.rest().await, ": open\n\n");
}

#[tokio::test]
async fn end_of_a_session_ends_its_stream() {
    let pair = pair().await;
    pair.fake.answer_session("s", session());
    let layer = McpLayer::builder(pair.client.clone()).build().unwrap();
    let server = Server::new(|_| open_stream(": open\n\n"));
    let received = server.send(&layer, request("GET", &[("mcp-session-id", "s")], "")).await;
    // As by a DELETE in another process.
    let unbound = v1::ValidateSessionResponse {
        verdict: v1::Verdict::Unbound.into(),
        provenance: Some(provenance(2)),
        ..Default::default()
    };
    pair.fake.answer_session("s", unbound);
    pair.fake.invalidate(2, v1::InvalidationScope::Session, "s");
    assert_eq!(received.rest().await, ": open\n\n");
}
