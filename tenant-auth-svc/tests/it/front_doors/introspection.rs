//! Token introspection (RFC 7662).

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tenant_auth_proto::v1;
use tenant_auth_svc::domain::{
    access::Role,
    clock::{ManualClock, SharedClock, SystemClock},
};
use tenant_auth_testkit::Fault;

use super::denied_keys;
use crate::harness::{
    HttpAnswer, NOW, TestDatabase, TestService,
    callers::CallersFile,
    front_doors::{forward_address, start_with_doors, with_forward_address},
    http_exchange, owned, unknown_key,
};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

async fn introspect(service: &TestService, headers: &[(&str, &str)], body: &str) -> HttpAnswer {
    let answer =
        http_exchange(forward_address(service), "POST /oauth2/introspect", headers, body).await.unwrap();
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    answer
}

fn json_body(answer: &HttpAnswer) -> Value {
    serde_json::from_str(&answer.body).unwrap()
}

#[tokio::test]
async fn valid_key_is_active_with_its_tenant() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    database.follow_clock(&clock);
    let settings = with_forward_address(database.settings());
    let service = TestService::start_with(settings, Arc::clone(&clock) as SharedClock).await;
    let tenant = service.create_tenant("Caf\u{e9}").await;
    let expires_at = Some(prost_types::Timestamp { seconds: NOW.0 / 1_000 + 3_600, nanos: 0 });
    let issue = v1::IssueKeyRequest {
        tenant_id: tenant.clone(),
        scopes: owned(&["b", "a"]),
        expires_at,
        ..Default::default()
    };
    let issued = service.admin().issue_key(issue).await.unwrap().into_inner();
    let key_id = issued.key.unwrap().key_id;
    let body = format!("token={}&token_type_hint=access_token", issued.plaintext);
    let answer = introspect(&service, &[FORM], &body).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let mut found = json_body(&answer);
    // By the clock of the machine: ids are generated from it.
    assert!(found["iat"].as_i64().unwrap() > 1_700_000_000);
    found.as_object_mut().unwrap().remove("iat");
    let expected = json!({
        "active": true, "scope": "a b", "client_id": key_id, "sub": tenant, "token_type": "Bearer",
        "exp": NOW.0 / 1_000 + 3_600, "tenant_name": "Caf\u{e9}", "plan": "pro", "key_id": key_id,
    });
    assert_eq!(found, expected);
}

#[tokio::test]
async fn only_a_denial_is_inactive_and_outage_is_503() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    database.follow_clock(&clock);
    let settings = with_forward_address(database.settings());
    let service = TestService::start_with(settings, Arc::clone(&clock) as SharedClock).await;
    for denied in denied_keys(&service, &clock).await {
        let answer = introspect(&service, &[FORM], &format!("token={}", denied.key)).await;
        // Scopes are not part of introspection: the resource server compares them.
        let is_active = denied.code == "INSUFFICIENT_SCOPE";
        assert_eq!(
            (answer.status, json_body(&answer)["active"].as_bool()),
            (200, Some(is_active)),
            "{}",
            denied.code
        );
        assert_eq!(json_body(&answer).as_object().unwrap().len() > 1, is_active, "nothing else is reported");
    }
    database.server().faults().set(Fault::ResetBeforeExecute);
    clock.advance(Duration::from_secs(60));
    let answer = introspect(&service, &[FORM], &format!("token={}", unknown_key())).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(json_body(&answer)["code"], "UNDECIDED");
}

#[tokio::test]
async fn address_in_the_form_decides_about_networks() {
    let database = TestDatabase::test_server().await;
    let service = start_with_doors(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let networks = owned(&["192.0.2.0/24"]);
    let issue = v1::IssueKeyRequest { tenant_id: tenant, allowed_networks: networks, ..Default::default() };
    let key = service.admin().issue_key(issue).await.unwrap().into_inner().plaintext;
    for (address, active) in
        [("", false), ("&client_address=192.0.2.7", true), ("&client_address=192.0.3.7", false)]
    {
        let answer = introspect(&service, &[FORM], &format!("token={key}{address}")).await;
        assert_eq!(json_body(&answer)["active"], active, "{address}");
    }
}

#[tokio::test]
async fn malformed_introspection_names_the_field() {
    let database = TestDatabase::test_server().await;
    let service = start_with_doors(&database).await;
    let long = format!("token={}", "x".repeat(9_000));
    for (headers, body, problem) in [
        (&[FORM][..], "", "token: must be given"),
        (&[FORM], "token=", "token: must not be empty"),
        (&[FORM], "token=a&token=b", "token: must occur once"),
        (&[FORM], "token=a&client_address=home", "client_address: must be one"),
        (&[FORM], &long, "at most 8192 bytes"),
        (&[("content-type", "application/json")], "{}", "the content type must be"),
        (&[], "token=a", "the content type must be"),
    ] {
        let answer = introspect(&service, headers, body).await;
        let error = json_body(&answer);
        assert_eq!((answer.status, &error["error"]), (400, &json!("invalid_request")), "{body}");
        assert!(error["error_description"].as_str().unwrap().contains(problem), "{error}");
    }
    let answer = http_exchange(forward_address(&service), "GET /oauth2/introspect", &[], "").await.unwrap();
    assert_eq!(answer.status, 405);
}

#[tokio::test]
async fn client_authenticates_with_its_caller_token() {
    let database = TestDatabase::test_server().await;
    let file =
        CallersFile::new(&[("api", Role::Validator, &["secret:1"]), ("envoy", Role::Proxy, &["proxy"])]);
    let settings = with_forward_address(file.settings(&database));
    let service = TestService::start_with(settings, SystemClock::shared()).await;
    let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
    for (authorization, status) in [
        ("Bearer secret:1".to_owned(), 200),
        (basic("api:secret:1"), 200),
        (basic("api:secret%3A1"), 200),
        (basic("other:secret:1"), 401),
        (basic("api:guess"), 401),
        ("Bearer guess".to_owned(), 401),
        ("Bearer proxy".to_owned(), 403),
        ("Basic ?".to_owned(), 401),
    ] {
        let headers = [FORM, ("authorization", &*authorization)];
        let answer = introspect(&service, &headers, &format!("token={}", unknown_key())).await;
        assert_eq!(answer.status, status, "{authorization}");
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge, (status == 401).then_some("bearer, basic realm=\"tenant-auth\""));
    }
    assert_eq!(introspect(&service, &[FORM], "token=key-number-1").await.status, 401);
}
