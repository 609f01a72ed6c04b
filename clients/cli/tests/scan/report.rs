//! Reports of found keys to a fake service.

use std::{
    convert::Infallible,
    fs,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Body};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tenant_auth_client::proto::{ApiKey, LeakAction, ReportLeakRequest, ReportLeakResponse};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, server::Grpc, service::Routes, transport::Server};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::{CommandOutput, generate_key, scan, text};

const REPORT_LEAK: &str = "/tenantauth.v1.AdminService/ReportLeak";

type Respond = fn(usize, &ReportLeakRequest) -> Result<ReportLeakResponse, Status>;

/// A service with one RPC.
struct FakeService {
    _runtime: Runtime,
    endpoint: String,
    requests: Arc<Mutex<Vec<ReportLeakRequest>>>,
}

impl FakeService {
    /// Starts a service that responds to each request, given the number of requests before it.
    fn start(respond: Respond) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        let report = move |request: Request<ReportLeakRequest>| {
            let mut kept = kept.lock().unwrap();
            let response = respond(kept.len(), request.get_ref());
            kept.push(request.into_inner());
            std::future::ready(response.map(Response::new))
        };
        let route = service_fn(move |request: axum::http::Request<Body>| {
            let report = service_fn(report.clone());
            async move { Ok::<_, Infallible>(Grpc::new(ProstCodec::default()).unary(report, request).await) }
        });
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let routes = Routes::from(Router::new().route_service(REPORT_LEAK, route));
        runtime.spawn(async move {
            Server::builder().add_routes(routes).serve_with_incoming(TcpListenerStream::new(listener)).await
        });
        Self { _runtime: runtime, endpoint, requests }
    }

    fn report(&self, args: &[&str]) -> CommandOutput {
        scan(&[&["--report", "--endpoint", &self.endpoint], args].concat(), b"")
    }

    fn requests(&self) -> Vec<ReportLeakRequest> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

/// The service disables the first key, knows nothing of the second one, and so on.
fn known(action: LeakAction, already_reported: bool) -> ReportLeakResponse {
    let key = ApiKey {
        key_id: "key_1".to_owned(),
        tenant_id: "acme".to_owned(),
        expires_at: (action == LeakAction::Expire)
            .then_some(prost_types::Timestamp { seconds: 3_600, nanos: 0 }),
        ..Default::default()
    };
    ReportLeakResponse { known: true, already_reported, action: action.into(), key: Some(key), revision: 1 }
}

fn each_effect(before: usize, _: &ReportLeakRequest) -> Result<ReportLeakResponse, Status> {
    Ok(match before {
        0 => known(LeakAction::Disable, false),
        1 => ReportLeakResponse::default(),
        2 => known(LeakAction::Expire, true),
        _ => known(LeakAction::Notify, false),
    })
}

#[test]
fn each_key_is_reported_once_by_its_hash() {
    let service = FakeService::start(each_effect);
    let folder = tempfile::tempdir().unwrap();
    let keys: Vec<_> = (0..4).map(|_| generate_key("ta")).collect();
    fs::write(folder.path().join("a"), format!("\n{}\n{}\n{}", keys[0], keys[1], keys[0])).unwrap();
    fs::write(folder.path().join("b"), format!("{}\n{}\n{}", keys[2], keys[0], keys[3])).unwrap();
    let root = text(folder.path());

    let ran = service.report(&[root, "--source", "nightly"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let requests = service.requests();
    let places = ["a:2", "a:3", "b:1", "b:3"].map(|place| format!("{root}/{place}"));
    assert_eq!(requests.len(), 4);
    for ((request, key), place) in requests.iter().zip(&keys).zip(&places) {
        let expected = ReportLeakRequest {
            plaintext: String::new(),
            sha256: Sha256::digest(key.as_bytes()).to_vec(),
            source: "nightly".to_owned(),
            location: place.clone(),
            r#type: "tenant-auth key".to_owned(),
        };
        assert_eq!(*request, expected);
    }
    let effects: Vec<_> = ran.stdout.lines().skip(6).map(|line| line.split_once("…: ").unwrap().1).collect();
    assert_eq!(
        effects,
        [
            "disabled (key_1 of tenant acme)",
            "unknown to the service",
            "already reported: expires at 1970-01-01T01:00:00Z (key_1 of tenant acme)",
            "notified, and still valid (key_1 of tenant acme)",
        ]
    );

    let ran = service.report(&[root, "--json"]);
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((json["findings"].as_array().unwrap().len(), &json["found"]), (6, &json!(6)));
    assert_eq!(service.requests()[0].source, "tenantctl-scan");
}

#[test]
fn reports_as_json_have_the_effect() {
    let service = FakeService::start(each_effect);
    let folder = tempfile::tempdir().unwrap();
    let keys = [generate_key("ta"), generate_key("ta")];
    fs::write(folder.path().join("a"), keys.join("\n")).unwrap();
    let json: Value = serde_json::from_str(&service.report(&[text(folder.path()), "--json"]).stdout).unwrap();
    let hash = |key: &str| hex::encode(&Sha256::digest(key.as_bytes())[..6]);
    let expected = json!([
        {
            "prefix": &keys[0][..7], "sha256_prefix": hash(&keys[0]), "known": true, "already_reported": false,
            "action": "disabled", "key_id": "key_1", "tenant_id": "acme", "expires_at": null,
        },
        {
            "prefix": &keys[1][..7], "sha256_prefix": hash(&keys[1]), "known": false, "already_reported": false,
            "action": null, "key_id": null, "tenant_id": null, "expires_at": null,
        },
    ]);
    assert_eq!(json["reports"], expected);
}

#[test]
fn overloaded_service_is_asked_again() {
    let service = FakeService::start(|before, _| match before {
        0 => Err(Status::unavailable("later")),
        _ => Ok(known(LeakAction::Disable, false)),
    });
    let key = generate_key("ta");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), &key).unwrap();
    let ran = service.report(&[text(folder.path())]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let requests = service.requests();
    assert_eq!((requests.len(), &requests[0]), (2, &requests[1]));
}

#[test]
fn failed_report_keeps_the_findings() {
    let service = FakeService::start(|before, _| match before {
        0 => Ok(known(LeakAction::Disable, false)),
        _ => Err(Status::new(Code::PermissionDenied, "the caller lacks a role")),
    });
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), format!("{}\n{}", generate_key("ta"), generate_key("ta"))).unwrap();
    let ran = service.report(&[text(folder.path()), "--json"]);
    assert_eq!(ran.code, 5, "{}", ran.stderr);
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&json["found"], json["reports"].as_array().unwrap().len()), (&json!(2), 1));
    assert!(ran.stderr.contains("1 of 2 keys were reported"), "{}", ran.stderr);
    assert!(ran.stderr.contains("PERMISSION_DENIED"), "{}", ran.stderr);
}

#[test]
fn nothing_is_sent_without_a_finding() {
    let service = FakeService::start(|_, _| Err(Status::internal("not expected")));
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), "nothing").unwrap();
    let ran = service.report(&[text(folder.path()), "--json"]);
    assert_eq!((ran.code, service.requests().len()), (0, 0), "{}", ran.stderr);
}
