//! Sessions of the handshake revisions.

use std::time::Duration;

use http::HeaderValue;
use tenant_auth_client::{McpLayer, Principal, proto as v1};
use tonic::Status;

use super::{Answer, Server, answer, request};
use crate::harness::{
    Pair,
    server::{session, valid},
};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;

async fn pair() -> (Pair, McpLayer) {
    let pair = Pair::with(|builder| builder.timeout(Duration::from_secs(5))).await;
    pair.fake.answer("k", valid("k"));
    let layer = McpLayer::builder(pair.client.clone()).build().unwrap();
    (pair, layer)
}

fn opening(id: &str) -> Answer {
    let mut answer = answer("application/json", "{}");
    answer.headers_mut().insert("mcp-session-id", HeaderValue::from_str(id).unwrap());
    answer
}

#[tokio::test]
async fn session_is_bound_before_the_client_gets_its_id_and_unbound_on_delete() {
    let (pair, layer) = pair().await;
    let server =
        Server::new(
            |parts| {
                if parts.method == "POST" { opening("s-1") } else { answer("application/json", "{}") }
            },
        );
    let received = server.send(&layer, request("POST", &[], INITIALIZE)).await;
    assert_eq!((received.status(), received.header("mcp-session-id")), (200, Some("s-1")));
    assert!(pair.fake.is_bound("s-1"));
    // The server repeats the id; the session is bound already.
    let asked = pair.fake.asked();
    let again = [("mcp-session-id", "s-1")];
    assert_eq!(server.send(&layer, request("POST", &again, INITIALIZE)).await.status(), 200);
    assert_eq!(pair.fake.asked(), asked + 1);
    assert_eq!(server.send(&layer, request("DELETE", &again, "")).await.status(), 200);
    assert!(!pair.fake.is_bound("s-1"));
    assert_eq!(server.send(&layer, request("GET", &again, "")).await.status(), 404);
}

#[tokio::test]
async fn session_that_cannot_be_bound_is_ended_and_its_id_stays_secret() {
    let (pair, layer) = pair().await;
    let server =
        Server::new(
            |parts| {
                if parts.method == "POST" { opening("s-1") } else { answer("application/json", "{}") }
            },
        );
    // The key is in the near-cache, so that the failure is that of the binding.
    server.send(&layer, request("GET", &[], "")).await;
    server.take_seen();
    pair.fake.fail(Status::internal("broken"));
    let received = server.send(&layer, request("POST", &[("x-own", "1")], INITIALIZE)).await;
    assert_eq!((received.status(), received.header("mcp-session-id")), (503, None));
    assert_eq!(received.header("retry-after"), Some("1"));
    assert_eq!(received.json().await["code"], "UNDECIDED");
    let [(_, first), (ending, body)] = &server.take_seen()[..] else { unreachable!("two requests") };
    assert_eq!((first, &ending.method, body.len()), (&INITIALIZE.into(), &http::Method::DELETE, 0));
    assert_eq!(
        (&ending.headers["mcp-session-id"], &ending.headers["x-own"]),
        (&"s-1".parse().unwrap(), &"1".parse().unwrap())
    );
    assert!(!pair.fake.is_bound("s-1"));
}

#[tokio::test]
async fn invalid_ids_and_handles_of_the_server_are_no_sessions() {
    let (pair, layer) = pair().await;
    for id in ["mcp-handle:cart_1", "a b", &"x".repeat(1_025)] {
        let opened = id.to_owned();
        let server = Server::new(move |_| opening(&opened));
        let received = server.send(&layer, request("POST", &[], INITIALIZE)).await;
        assert_eq!((received.status(), received.header("mcp-session-id")), (503, None), "{id}");
        assert!(!pair.fake.is_bound(id));
    }
}

#[tokio::test]
async fn failed_responses_open_no_session() {
    let (pair, layer) = pair().await;
    let server = Server::new(|_| {
        let mut answer = opening("s-1");
        *answer.status_mut() = http::StatusCode::BAD_REQUEST;
        answer
    });
    assert_eq!(server.send(&layer, request("POST", &[], INITIALIZE)).await.status(), 400);
    assert!(!pair.fake.is_bound("s-1"));
}

#[tokio::test]
async fn session_stays_bound_if_the_server_refuses_to_end_it() {
    let (pair, layer) = pair().await;
    pair.fake.answer_session("s-1", session());
    let server = Server::new(|_| {
        let mut answer = answer("text/plain", "");
        *answer.status_mut() = http::StatusCode::METHOD_NOT_ALLOWED;
        answer
    });
    let ending = request("DELETE", &[("mcp-session-id", "s-1")], "");
    assert_eq!(server.send(&layer, ending).await.status(), 405);
    assert!(pair.fake.is_bound("s-1"));
}

#[tokio::test]
async fn stateless_revisions_have_no_session_in_either_direction() {
    let (pair, layer) = pair().await;
    let server = Server::new(|_| opening("s-1"));
    let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-session-id", "s-9"), ("last-event-id", "7")];
    let received = server.send(&layer, request("POST", &headers, INITIALIZE)).await;
    assert_eq!((received.status(), received.header("mcp-session-id")), (200, None));
    assert!(!pair.fake.is_bound("s-1"));
    let (parts, _) = server.take_seen().remove(0);
    assert!(!parts.headers.contains_key("mcp-session-id") && !parts.headers.contains_key("last-event-id"));
    assert_eq!(Principal::of(&parts.extensions).unwrap().tenant_id(), "acme");
}

#[tokio::test]
async fn each_verdict_about_a_session_has_its_status() {
    let (pair, layer) = pair().await;
    let server = Server::new(|_| answer("application/json", "{}"));
    for (verdict, status, code) in [
        (v1::Verdict::SessionExpired, 404, "SESSION_EXPIRED"),
        (v1::Verdict::TenantMismatch, 404, "UNBOUND"),
        (v1::Verdict::Unbound, 404, "UNBOUND"),
        (v1::Verdict::Revoked, 404, "REVOKED"),
        (v1::Verdict::TenantSuspended, 403, "TENANT_SUSPENDED"),
        (v1::Verdict::RateLimited, 429, "RATE_LIMITED"),
    ] {
        let id = verdict.as_str_name();
        pair.fake.answer_session(id, v1::ValidateSessionResponse { verdict: verdict.into(), ..session() });
        let received = server.send(&layer, request("POST", &[("mcp-session-id", id)], "{}")).await;
        assert_eq!(received.status(), status, "{verdict:?}");
        assert_eq!(received.json().await["code"], code, "{verdict:?}");
    }
    pair.fake.fail(Status::internal("broken"));
    let received = server.send(&layer, request("POST", &[("mcp-session-id", "other")], "{}")).await;
    assert_eq!((received.status(), received.header("retry-after")), (503, Some("1")));
    assert!(server.take_seen().is_empty());
}
