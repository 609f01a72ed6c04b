//! Settings of the layer: what is refused at construction, challenges and metadata.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use serde_json::json;
use tenant_auth_client::{
    Error, McpLayer, McpLayerBuilder, McpPolicy, McpRule, RecorderSettings, UsageRecorder,
};

use super::{Server, answer, request};
use crate::harness::{Pair, server::valid};

fn refused(builder: McpLayerBuilder) -> String {
    let Err(Error::Setup { message }) = builder.build() else { unreachable!("it was accepted") };
    message
}

#[tokio::test]
async fn invalid_settings_are_rejected_by_name() {
    let pair = Pair::start().await;
    let builder = || McpLayer::builder(pair.client.clone());
    let metered = McpPolicy::new().tool("a", McpRule::new().usage("m", 1));
    assert!(refused(builder().policy(metered.clone())).contains("McpLayerBuilder::usage"));
    let recorder = UsageRecorder::start(pair.client.clone(), RecorderSettings::new()).unwrap();
    assert!(builder().policy(metered).usage(recorder).build().is_ok());
    for (policy, path) in [
        (McpPolicy::new().tool("a", McpRule::new().scope("A B")), r#"tools["a"].scopes[0]"#),
        (McpPolicy::new().resource("a*", McpRule::new().usage("M", 1)), r#"resources["a*"].usage.metric"#),
        (McpPolicy::new().method("a", McpRule::new().usage("m", -1)), r#"methods["a"].usage.quantity"#),
    ] {
        assert!(refused(builder().policy(policy)).contains(path), "{path}");
    }
    for (builder, name) in [
        (builder().body_limit(0), "body_limit"),
        (builder().session_ttl(Duration::from_secs(59)), "session_ttl"),
        (builder().session_ttl(Duration::from_secs(86_401)), "session_ttl"),
        (builder().trusted_proxies(&["everywhere"]), "trusted_proxies"),
        (builder().protected_resource("/mcp", &["https://login.example"]), "resource"),
        (builder().protected_resource("https://a.example/mcp", &["login"]), "authorization_servers"),
        (builder().protected_resource::<&str>("https://a.example/mcp", &[]), "authorization_servers"),
    ] {
        assert!(refused(builder).contains(name), "{name}");
    }
    assert!(McpPolicy::from_file("/nowhere/policy.json").is_err());
}

fn get(path: &str) -> Request<Bytes> {
    Request::get(path).body(Bytes::new()).unwrap()
}

#[tokio::test]
async fn metadata_are_published_and_named_only_if_configured() {
    let pair = Pair::start().await;
    pair.fake.answer("k", valid("k"));
    let server = Server::new(|_| answer("application/json", "{}"));
    let policy = McpPolicy::new()
        .tool("b", McpRule::new().scope("b").scope("a"))
        .prompt("p", McpRule::new().scope("a"));
    let call = r#"{"id":1,"method":"tools/call","params":{"name":"b"}}"#;
    let plain = McpLayer::builder(pair.client.clone()).policy(policy.clone()).build().unwrap();
    for path in ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"] {
        let received = server.send(&plain, get(path)).await;
        assert_eq!(received.status(), 404);
        assert!(!received.text().await.to_lowercase().contains("oauth"));
    }
    let received = server.send(&plain, get("/mcp")).await;
    assert_eq!((received.status(), received.header("www-authenticate")), (401, Some("Bearer")));
    let received = server.send(&plain, request("POST", &[], call)).await;
    let challenge = "Bearer error=\"insufficient_scope\", scope=\"a b\"";
    assert_eq!((received.status(), received.header("www-authenticate")), (403, Some(challenge)));
    assert_eq!(received.json().await["missing_scopes"], json!(["a", "b"]));

    let layer = McpLayer::builder(pair.client.clone())
        .policy(policy)
        .protected_resource("https://a.example/mcp", &["https://login.example"])
        .build()
        .unwrap();
    let received = server.send(&layer, get("/.well-known/oauth-protected-resource/mcp")).await;
    assert_eq!((received.status(), received.header("content-type")), (200, Some("application/json")));
    let expected = json!({
        "resource": "https://a.example/mcp",
        "authorization_servers": ["https://login.example"],
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["a", "b"],
    });
    assert_eq!(received.json().await, expected);
    assert_eq!(server.send(&layer, get("/.well-known/oauth-protected-resource")).await.status(), 404);
    let posted = Request::post("/.well-known/oauth-protected-resource/mcp").body(Bytes::new()).unwrap();
    let received = server.send(&layer, posted).await;
    assert_eq!((received.status(), received.header("allow")), (405, Some("GET, HEAD")));
    let metadata = "resource_metadata=\"https://a.example/.well-known/oauth-protected-resource/mcp\"";
    let received = server.send(&layer, get("/mcp")).await;
    assert_eq!(received.header("www-authenticate"), Some(format!("Bearer {metadata}").as_str()));
    let received = server.send(&layer, request("POST", &[], call)).await;
    assert_eq!(received.header("www-authenticate"), Some(format!("{challenge}, {metadata}").as_str()));
    assert!(server.take_seen().is_empty());
}

#[tokio::test]
async fn body_that_is_too_large_is_rejected() {
    let pair = Pair::start().await;
    pair.fake.answer("k", valid("k"));
    let policy = McpPolicy::new().tool("a", McpRule::new());
    let layer = McpLayer::builder(pair.client.clone()).policy(policy).body_limit(100).build().unwrap();
    let server = Server::new(|_| answer("application/json", "{}"));
    let body = |size: usize| format!("{{\"id\":1,\"method\":\"{}\"}}", "x".repeat(size - 20));
    assert_eq!(server.send(&layer, request("POST", &[], &body(100))).await.status(), 200);
    let received = server.send(&layer, request("POST", &[], &body(101))).await;
    assert_eq!((received.status(), received.json().await["code"].clone()), (413, json!("BODY_TOO_LARGE")));
    assert_eq!(server.take_seen().len(), 1);
}

#[tokio::test]
async fn call_whose_usage_cannot_be_recorded_is_rejected_and_not_passed_on() {
    let pair = Pair::start().await;
    pair.fake.answer("k", valid("k"));
    let recorder = UsageRecorder::start(pair.client.clone(), RecorderSettings::new()).unwrap();
    recorder.clone().close(Duration::ZERO).await;
    let policy = McpPolicy::new().tool("a", McpRule::new().usage("mcp.tool_calls", 1));
    let layer = McpLayer::builder(pair.client.clone()).policy(policy).usage(recorder).build().unwrap();
    let server = Server::new(|_| answer("application/json", "{}"));
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}"#;
    let received = server.send(&layer, request("POST", &[], call)).await;
    assert_eq!((received.status(), received.header("retry-after")), (503, Some("1")));
    assert_eq!(received.json().await["code"], "UNDECIDED");
    assert!(server.take_seen().is_empty());
}

#[tokio::test]
async fn layer_needs_its_own_scopes_for_every_request() {
    let pair = Pair::start().await;
    pair.fake.answer("k", valid("k"));
    let layer =
        McpLayer::builder(pair.client.clone()).requires("orders:read").requires("mcp").build().unwrap();
    let server = Server::new(|_| answer("application/json", "{}"));
    for method in ["GET", "POST"] {
        let received = server.send(&layer, request(method, &[], "{}")).await;
        let challenge = "Bearer error=\"insufficient_scope\", scope=\"mcp orders:read\"";
        assert_eq!((received.status(), received.header("www-authenticate")), (403, Some(challenge)));
        assert_eq!(received.json().await["missing_scopes"], json!(["mcp"]));
    }
}
