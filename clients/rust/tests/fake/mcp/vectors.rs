//! The requests that the adapters of all languages answer alike.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderName, Request};
use serde::Deserialize;
use serde_json::Value;
use tenant_auth_client::{McpLayer, McpPolicy, RecorderSettings, UsageRecorder, proto as v1};

use super::{Server, answer};
use crate::harness::{
    Pair,
    server::{session, valid},
};

const REQUESTS: &str = include_str!("../../../../conformance/mcp/requests.json");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    #[serde(rename = "about")]
    _about: String,
    key_headers: Vec<String>,
    policies: BTreeMap<String, Value>,
    keys: BTreeMap<String, Key>,
    sessions: BTreeMap<String, String>,
    requests: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    scopes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    policy: Option<String>,
    request: Sent,
    response: Expected,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    method: String,
    headers: Vec<(String, String)>,
    body: Option<Value>,
    raw_body: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    #[serde(default)]
    admitted: bool,
    usage: Option<Vec<(String, i64)>>,
    status: Option<u16>,
    code: Option<String>,
    scope: Option<String>,
    body_read: Option<bool>,
    json_rpc_code: Option<i64>,
    json_rpc_id: Option<Value>,
    validated_sessions: Option<u32>,
    #[serde(default, deserialize_with = "present")]
    session_id_seen: Option<Option<String>>,
}

/// Distinguishes `null` from nothing.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

impl Sent {
    fn to_request(&self, keys: &BTreeMap<String, Key>) -> Request<Bytes> {
        let mut builder = Request::builder().method(self.method.as_str()).uri("/mcp");
        for (name, value) in &self.headers {
            let plain = |value: String, key: &String| value.replace(&format!("${key}"), key);
            builder = builder.header(name, keys.keys().fold(value.clone(), plain));
        }
        let body = self.body.as_ref().map(Value::to_string).or_else(|| self.raw_body.clone());
        builder.body(Bytes::from(body.unwrap_or_default())).unwrap()
    }
}

/// Checks one request; returns what differs.
async fn differences(vectors: &Vectors, case: &Case, pair: &Pair, recorder: &UsageRecorder) -> Vec<String> {
    let mut builder = McpLayer::builder(pair.client.clone()).usage(recorder.clone());
    for name in vectors.key_headers.iter().filter(|name| *name != "Authorization") {
        builder = builder.or_header(name.parse::<HeaderName>().unwrap());
    }
    if let Some(name) = &case.policy {
        builder = builder.policy(McpPolicy::from_json(&vectors.policies[name].to_string()).unwrap());
    }
    let layer = builder.build().unwrap();
    // The server does not read the body, so that only the layer can have read it.
    let server = Server { reads_bodies: false, ..Server::new(|_| answer("application/json", "{}")) };
    let sessions_asked = pair.fake.sessions_asked();
    let received = server.send(&layer, case.request.to_request(&vectors.keys)).await;
    recorder.flush().await.unwrap();

    let expected = &case.response;
    let mut differences = Vec::new();
    let mut compare = |what: &str, found: String, expected: String| {
        if found != expected {
            differences.push(format!("{}: {what} is {found}, not {expected}", case.name));
        }
    };
    let seen = server.take_seen();
    compare("admitted", format!("{}", !seen.is_empty()), format!("{}", expected.admitted));
    if let Some(read) = expected.body_read {
        compare("body_read", received.was_read.to_string(), read.to_string());
    }
    let event = |event: v1::UsageEvent| (event.metric, event.quantity);
    let mut usage: Vec<_> = pair.fake.take_usage().into_iter().map(event).collect();
    let mut expected_usage = expected.usage.clone().unwrap_or_default();
    usage.sort_unstable();
    expected_usage.sort_unstable();
    compare("usage", format!("{usage:?}"), format!("{expected_usage:?}"));
    if let Some(calls) = expected.validated_sessions {
        compare(
            "validated_sessions",
            (pair.fake.sessions_asked() - sessions_asked).to_string(),
            calls.to_string(),
        );
    }
    if let (Some(expected), Some((parts, _))) = (&expected.session_id_seen, seen.first()) {
        let found = parts.headers.get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
        compare("session_id_seen", format!("{found:?}"), format!("{expected:?}"));
    }
    let status = expected.status.unwrap_or(200);
    compare("status", received.status().to_string(), status.to_string());
    let challenge = received.header("www-authenticate").unwrap_or_default().to_owned();
    if let Some(scope) = &expected.scope {
        let has = challenge.contains(&format!("error=\"insufficient_scope\", scope=\"{scope}\""));
        compare("challenge", challenge.clone(), if has { challenge.clone() } else { scope.clone() });
    }
    if status == 401 {
        compare("challenge", challenge.starts_with("Bearer").to_string(), "true".to_owned());
    }
    compare("oauth", challenge.contains("resource_metadata").to_string(), "false".to_owned());
    let is_json_rpc = received.header("content-type") == Some("application/json");
    let body = received.json().await;
    if let Some(code) = &expected.code {
        compare("code", body["code"].to_string(), format!("{code:?}"));
    }
    if let Some(code) = expected.json_rpc_code {
        compare("json_rpc_code", format!("{is_json_rpc} {}", body["error"]["code"]), format!("true {code}"));
    }
    if let Some(id) = &expected.json_rpc_id {
        compare("json_rpc_id", body["id"].to_string(), id.to_string());
    }
    differences
}

#[tokio::test]
async fn layer_answers_every_request_as_the_other_languages_do() {
    let vectors: Vectors = serde_json::from_str(REQUESTS).unwrap();
    // Without a near-cache, every validation of a session is a call.
    let pair = Pair::with(|builder| builder.without_near_cache()).await;
    for (name, key) in &vectors.keys {
        pair.fake.answer(name, v1::ValidateKeyResponse { scopes: key.scopes.clone(), ..valid(name) });
    }
    for (id, tenant) in &vectors.sessions {
        let verdict = if tenant == "acme" { v1::Verdict::Valid } else { v1::Verdict::TenantMismatch };
        pair.fake.answer_session(id, v1::ValidateSessionResponse { verdict: verdict.into(), ..session() });
    }
    let recorder = UsageRecorder::start(pair.client.clone(), RecorderSettings::new()).unwrap();
    let mut all = Vec::new();
    for case in &vectors.requests {
        all.extend(differences(&vectors, case, &pair, &recorder).await);
    }
    assert!(vectors.requests.len() >= 100);
    assert!(all.is_empty(), "{}", all.join("\n"));
}
