//! The endpoint of the secret scanning partner programme, with real signatures.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode, header::USER_AGENT},
    routing::get,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, SigningKey as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tenant_auth_proto::v1::{self, Verdict};
use tenant_auth_svc::domain::clock::{ManualClock, SharedClock};
use tenant_auth_testkit::Fault;
use tokio::net::TcpListener;

use crate::harness::{NOW, TestDatabase, TestService, unknown_key};

const KEYS_VARIABLE: &str = "TENANT_AUTH_SECRET_SCANNING_KEYS";

fn published(keys: &[(&str, &KeyPair)]) -> String {
    let key = |(id, key): &(&str, &KeyPair)| json!({ "key_identifier": id, "key": key.public_key_pem() });
    json!({ "public_keys": keys.iter().map(key).collect::<Vec<_>>() }).to_string()
}

fn key_pair() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

/// A service that accepts findings which are signed with a key of a file.
struct Scanned {
    database: TestDatabase,
    service: TestService,
    clock: Arc<ManualClock>,
    signer: KeyPair,
    keys: NamedTempFile,
}

impl Scanned {
    async fn start() -> Self {
        let signer = key_pair();
        let keys = NamedTempFile::new().unwrap();
        fs::write(keys.path(), published(&[("current", &signer)])).unwrap();
        let database = TestDatabase::test_server().await;
        let (service, clock) = start_with(&database, keys.path().display().to_string()).await;
        Self { database, service, clock, signer, keys }
    }

    async fn issue_key(&self) -> (String, String) {
        self.service.issue_key(&self.service.create_tenant("Acme").await, &[]).await
    }

    async fn send(&self, findings: &Value) -> (u16, String) {
        let body = findings.to_string();
        let signature = BASE64_STANDARD.encode(self.signer.sign(body.as_bytes()).unwrap());
        post(self.ops(), &[("github-public-key-identifier", "current"), signed(&signature)], body).await
    }

    fn ops(&self) -> SocketAddr {
        self.service.running.ops_address().unwrap()
    }
}

fn signed(signature: &str) -> (&'static str, &str) {
    ("github-public-key-signature", signature)
}

async fn start_with(database: &TestDatabase, keys: String) -> (TestService, Arc<ManualClock>) {
    let clock = ManualClock::at(NOW);
    database.follow_clock(&clock);
    let settings = database
        .settings()
        .with_flag("TENANT_AUTH_OPS_LISTEN", Some("127.0.0.1:0".to_owned()))
        .with_flag(KEYS_VARIABLE, Some(keys));
    (TestService::start_with(settings, Arc::clone(&clock) as SharedClock).await, clock)
}

async fn post(ops: SocketAddr, headers: &[(&str, &str)], body: String) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(format!("http://{ops}/github/secret-scanning")).body(body);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

fn finding(token: &str) -> Value {
    json!({ "token": token, "type": "acme_key", "url": "https://example.com/leak", "source": "content" })
}

fn label(token: &str, label: &str) -> Value {
    json!({
        "token_hash": BASE64_STANDARD.encode(Sha256::digest(token)),
        "token_type": "acme_key",
        "label": label,
    })
}

#[tokio::test]
async fn signed_findings_disable_keys_and_are_labelled() {
    let scanned = Scanned::start().await;
    let (key, id) = scanned.issue_key().await;
    let stranger = unknown_key();
    let findings = json!([finding("ta_nonsense"), finding(&key), finding(&stranger), finding(&key)]);
    let expected = json!([
        label("ta_nonsense", "false_positive"),
        label(&key, "true_positive"),
        label(&stranger, "false_positive"),
        label(&key, "true_positive"),
    ]);
    for _ in 0..2 {
        let (status, body) = scanned.send(&findings).await;
        assert_eq!((status, serde_json::from_str::<Value>(&body).unwrap()), (200, expected.clone()));
        assert!(!body.contains(&key), "the response does not repeat the key");
        assert_eq!(scanned.service.validate(&key).await.unwrap().verdict(), Verdict::Disabled);
    }
    let request = v1::ListAuditEventsRequest { target: id, ..Default::default() };
    let events = scanned.service.admin().list_audit_events(request).await.unwrap().into_inner().events;
    let leaks: Vec<_> = events.iter().filter(|event| event.action == "key.leak").collect();
    assert_eq!(leaks.len(), 1, "a repeated request has no further effect");
    assert_eq!(leaks[0].caller, "github");
    assert!(leaks[0].detail.contains("https://example.com/leak"));
}

#[tokio::test]
async fn request_without_valid_signature_changes_nothing() {
    let scanned = Scanned::start().await;
    let (key, _) = scanned.issue_key().await;
    let body = json!([finding(&key)]).to_string();
    let signature = BASE64_STANDARD.encode(scanned.signer.sign(body.as_bytes()).unwrap());
    let forged = BASE64_STANDARD.encode(key_pair().sign(body.as_bytes()).unwrap());
    let id = ("github-public-key-identifier", "current");
    let changed = body.replace("leak", "Leak");
    let unknown_id = ("github-public-key-identifier", "unknown");
    for (headers, body, expected) in [
        // The keys are read for it. Within the minute, they may be too old to know it.
        (vec![unknown_id, signed(&signature)], body.clone(), 401),
        (vec![unknown_id, signed(&signature)], body.clone(), 503),
        (vec![], body.clone(), 400),
        (vec![id], body.clone(), 400),
        (vec![id, signed("not base64!")], body.clone(), 400),
        (vec![id, signed(&forged)], body.clone(), 401),
        (vec![id, signed(&signature)], changed, 401),
    ] {
        let (status, text) = post(scanned.ops(), &headers, body).await;
        assert_eq!(status, expected, "{text}");
        assert!(!text.contains(&key));
    }
    assert_eq!(scanned.service.validate(&key).await.unwrap().verdict(), Verdict::Valid);
    let (status, text) = scanned.send(&json!({ "token": key })).await;
    assert_eq!(status, 400);
    assert!(text.contains("not a JSON list of findings: line 1") && !text.contains(&key), "{text}");
    let large = json!([finding(&"x".repeat(1 << 20))]);
    assert_eq!(scanned.send(&large).await.0, 413);
}

#[tokio::test]
async fn outage_is_reported_and_the_next_request_succeeds() {
    let scanned = Scanned::start().await;
    let (key, _) = scanned.issue_key().await;
    scanned.database.server().faults().set(Fault::ResetBeforeExecute);
    let findings = json!([finding(&key)]);
    let (status, text) = scanned.send(&findings).await;
    assert_eq!((status, text.contains("send the request again")), (503, true), "{text}");
    scanned.database.server().faults().clear();
    scanned.clock.advance(Duration::from_secs(60));
    let mut answer = scanned.send(&findings).await;
    while answer.0 == 503 {
        scanned.clock.advance(Duration::from_secs(1));
        answer = scanned.send(&findings).await;
    }
    assert_eq!(answer.0, 200);
    assert_eq!(scanned.service.validate(&key).await.unwrap().verdict(), Verdict::Disabled);
}

#[tokio::test]
async fn rotated_keys_are_read_again_at_most_once_a_minute() {
    let mut scanned = Scanned::start().await;
    let (key, _) = scanned.issue_key().await;
    let findings = json!([finding(&key)]);
    assert_eq!(scanned.send(&findings).await.0, 200);
    scanned.signer = key_pair();
    fs::write(scanned.keys.path(), published(&[("next", &scanned.signer)])).unwrap();
    let body = findings.to_string();
    let signature = BASE64_STANDARD.encode(scanned.signer.sign(body.as_bytes()).unwrap());
    let headers = [("github-public-key-identifier", "next"), signed(&signature)];
    // Not 401: the keys that this replica has may be too old to know it.
    assert_eq!(post(scanned.ops(), &headers, body.clone()).await.0, 503, "within the minute");
    scanned.clock.advance(Duration::from_secs(61));
    assert_eq!(post(scanned.ops(), &headers, body.clone()).await.0, 200);

    // For an hour, the keys are not read: then the withdrawn one is gone.
    let (withdrawn, last) = (signature, key_pair());
    fs::write(scanned.keys.path(), published(&[("last", &last)])).unwrap();
    let headers = [("github-public-key-identifier", "next"), signed(&withdrawn)];
    scanned.clock.advance(Duration::from_secs(3_500));
    assert_eq!(post(scanned.ops(), &headers, body.clone()).await.0, 200);
    scanned.clock.advance(Duration::from_secs(200));
    assert_eq!(post(scanned.ops(), &headers, body).await.0, 401);
}

#[tokio::test]
async fn keys_of_the_last_day_are_used_when_they_cannot_be_read() {
    let scanned = Scanned::start().await;
    let (key, _) = scanned.issue_key().await;
    let findings = json!([finding(&key)]);
    assert_eq!(scanned.send(&findings).await.0, 200);
    let document = fs::read(scanned.keys.path()).unwrap();
    fs::write(scanned.keys.path(), "{").unwrap();
    scanned.clock.advance(Duration::from_secs(23 * 3_600));
    assert_eq!(scanned.send(&findings).await.0, 200);
    scanned.clock.advance(Duration::from_secs(2 * 3_600));
    assert_eq!(scanned.send(&findings).await.0, 503);
    // A failure is repeated sooner than a success.
    fs::write(scanned.keys.path(), document).unwrap();
    assert_eq!(scanned.send(&findings).await.0, 503);
    scanned.clock.advance(Duration::from_secs(6));
    assert_eq!(scanned.send(&findings).await.0, 200);
}

#[tokio::test]
async fn one_key_that_fails_does_not_keep_the_others_valid() {
    let scanned = Scanned::start().await;
    let (keys, mut ids) = (&mut Vec::new(), Vec::new());
    for _ in 0..3 {
        let (key, id) = scanned.issue_key().await;
        keys.push(key);
        ids.push(id);
    }
    // The record of the second key cannot be read.
    let unreadable = format!("UPDATE api_keys SET scopes = '[1]' WHERE id = '{}'", ids[1]);
    scanned.database.server().execute(&unreadable).unwrap();
    let mut findings: Vec<_> = keys.iter().map(|key| finding(key)).collect();
    // A place that names another key of the request is not recorded.
    findings[2]["url"] = json!(format!("https://example.com/?leak={}", keys[0]));
    let (status, text) = scanned.send(&json!(findings)).await;
    assert_eq!(status, 503, "{text}");
    for key in [&keys[0], &keys[2]] {
        assert_eq!(scanned.service.validate(key).await.unwrap().verdict(), Verdict::Disabled);
    }
    let request = v1::ListAuditEventsRequest { target: ids[2].clone(), ..Default::default() };
    let events = scanned.service.admin().list_audit_events(request).await.unwrap().into_inner().events;
    assert!(!events[0].detail.contains(&*keys[0]), "{}", events[0].detail);
}

#[tokio::test]
async fn keys_are_read_from_a_url() {
    let signer = key_pair();
    let (document, reads) = (published(&[("current", &signer)]), Arc::new(AtomicUsize::new(0)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let counted = Arc::clone(&reads);
    // As GitHub does, it refuses a request without a user agent.
    let routes = Router::new().route(
        "/keys",
        get(async move |headers: HeaderMap| {
            counted.fetch_add(1, Ordering::Relaxed);
            let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
            let is_accepted = agent.starts_with("tenant-auth/");
            if is_accepted { Ok(document) } else { Err(StatusCode::FORBIDDEN) }
        }),
    );
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let database = TestDatabase::test_server().await;
    let (service, clock) = start_with(&database, url).await;
    let scanned = Scanned { database, service, clock, signer, keys: NamedTempFile::new().unwrap() };
    let (key, _) = scanned.issue_key().await;
    for _ in 0..3 {
        assert_eq!(scanned.send(&json!([finding(&key)])).await.0, 200);
    }
    assert_eq!(reads.load(Ordering::Relaxed), 1, "the document is kept");
}

#[tokio::test]
async fn endpoint_is_absent_unless_configured_and_names_unreadable_keys() {
    let database = TestDatabase::test_server().await;
    let settings = database.settings().with_flag("TENANT_AUTH_OPS_LISTEN", Some("127.0.0.1:0".to_owned()));
    let service =
        TestService::start_with(settings, tenant_auth_svc::domain::clock::SystemClock::shared()).await;
    let ops = service.running.ops_address().unwrap();
    assert_eq!(post(ops, &[], String::new()).await.0, 404);

    let (service, _) = start_with(&TestDatabase::test_server().await, "/no/such/keys.json".to_owned()).await;
    let headers = [("github-public-key-identifier", "current"), signed("AAAA")];
    let (status, text) = post(service.running.ops_address().unwrap(), &headers, "[]".to_owned()).await;
    assert_eq!((status, text.contains("could not be handled now")), (503, true), "{text}");
}
