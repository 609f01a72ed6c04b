//! A planted key must not appear in any log, at any level or format, nor in any error.

use tenant_auth_proto::v1;
use tenant_auth_svc::domain::key::{KeyHash, PresentedKey};
use tenant_auth_testkit::Fault;

use crate::harness::{
    TOKEN, TestDatabase, TestService,
    captured::TestLog,
    front_doors::{check, check_request, forward_address, raw_check_request, start_with_doors},
    http_exchange, unknown_key,
};

/// Asks about a key at every front door, right and wrong, and returns what is said about it.
async fn at_the_front_doors(service: &TestService, key: &str) -> Vec<String> {
    let bearer = format!("Bearer {key}");
    let mut said = Vec::new();
    for (name, value) in [("authorization", &*bearer), ("x-api-key", key)] {
        let headers = [(name, value), ("x-tenant-auth-token", key), ("x-forwarded-uri", key)];
        let (plain, raw) = (check_request(&headers, &[]), raw_check_request(&headers, &[("scope", "a")]));
        for request in [plain, raw] {
            said.push(format!("{request:?}"));
            said.push(format!("{:?}", check(service, request).await));
        }
        for path in ["/forward-auth", "/forward-auth/nginx", "/forward-auth?scopes=B"] {
            let answer = http_exchange(forward_address(service), &format!("GET {path}"), &headers, "").await;
            said.push(answer.map(|answer| answer.head + &answer.body).unwrap());
        }
    }
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let token = format!("token={key}");
    for (headers, body) in [(&form[..], &*token), (&[], &token), (&[("authorization", &*bearer)], &token)] {
        let answer = http_exchange(forward_address(service), "POST /oauth2/introspect", headers, body).await;
        said.push(answer.map(|answer| answer.head + &answer.body).unwrap());
    }
    said
}

/// The test log also captures the output of all other tests, which only adds coverage.
#[tokio::test]
async fn planted_key_appears_in_no_log_or_error() {
    let captured = TestLog::shared();
    let frames = TestLog::with_frames();

    let database = TestDatabase::test_server().await;
    let service = start_with_doors(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let (issued, key_id) = service.issue_key(&tenant, &["a"]).await;
    let foreign = format!("canary-{}", unknown_key());
    let malformed = format!("{issued}x");
    let hash = KeyHash::of(&PresentedKey::new(foreign.clone()));
    let import = v1::ImportKey { tenant_id: tenant, sha256: hash.as_bytes().to_vec(), ..Default::default() };
    service.admin().import_keys(v1::ImportKeysRequest { keys: vec![import] }).await.unwrap();
    let rotate = v1::RotateKeyRequest { key_id, ..Default::default() };
    let rotated = service.admin().rotate_key(rotate).await.unwrap().into_inner();

    let keys = [issued, foreign, malformed, rotated.plaintext.clone()];
    let mut errors = vec![format!("{rotated:?}")];
    for fault in [None, Some(Fault::html_ok()), Some(Fault::ResetMidBody), Some(Fault::TruncatedJson)] {
        if let Some(fault) = fault {
            database.server().faults().set(fault);
        }
        for key in &keys {
            let request = v1::ValidateKeyRequest {
                key: key.clone(),
                required_scopes: vec!["B".to_owned()],
                ..Default::default()
            };
            errors.push(format!("{request:?}"));
            errors.push(format!("{:?}", service.validation().validate_key(request).await));
            errors.push(format!("{:?}", service.validate(&format!("{key}-unseen")).await));
            let request = v1::ValidateKeyRequest {
                key: key.clone(),
                required_scopes: Vec::new(),
                ..Default::default()
            };
            let batch = v1::BatchValidateKeysRequest { requests: vec![request.clone(); 2] };
            errors.push(format!("{:?}", service.validation().batch_validate_keys(batch).await));
            errors.extend(at_the_front_doors(&service, key).await);
            let item = v1::StreamValidateKeysRequest { correlation_id: 1, request: Some(request) };
            let stream = service.validation().stream_validate_keys(tokio_stream::iter([item])).await;
            errors.push(format!("{:?}", stream.unwrap().into_inner().message().await));
        }
    }

    let answered = |line: &str| line.contains("tenant_auth::rpc") && line.contains("\"verdict\":\"valid\"");
    let lines = captured.lines(1, answered).await;
    let line = lines.first().expect("without log lines the test proves nothing");
    drop(frames);
    let log = captured.text();
    assert!(log.contains(r#""target":"h2::"#), "frames must be logged");
    for field in [
        "request_id",
        "caller",
        "source",
        "duration_us",
        "rpc.method",
        "rpc.service",
        "rpc.response.status_code",
    ] {
        assert!(line.contains(&format!("\"{field}\":")), "{line}");
    }
    for secret in keys.iter().map(String::as_str).chain([TOKEN]) {
        let shown = log.lines().find(|line| line.contains(secret));
        assert!(shown.is_none(), "a secret is in the log: {shown:?}");
        let shown = errors.iter().find(|error| error.contains(secret));
        assert!(shown.is_none(), "a secret is in an error: {shown:?}");
    }
}
