//! Envoy's external authorization.

use std::collections::BTreeMap;

use prost::Message as _;
use prost_types::{Struct, value::Kind};
use tenant_auth_svc::domain::{
    access::Role,
    clock::{ManualClock, SystemClock},
};
use tenant_auth_testkit::Fault;
use tonic::Code;

use super::{denied_keys, problem_code};
use crate::harness::{
    NOW, TestDatabase, TestService,
    callers::CallersFile,
    front_doors::{Checked, IDENTITY_HEADERS, check, check_request, from_address, raw_check_request},
    owned,
    scrape::Scrape,
    unknown_key,
    wire::call_bytes,
};
use tenant_auth_proto::v1;

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

fn metadata(metadata: Option<&Struct>) -> BTreeMap<String, String> {
    let text = |kind: &Kind| match kind {
        Kind::StringValue(text) => text.clone(),
        Kind::NumberValue(number) => number.to_string(),
        Kind::ListValue(list) => {
            let texts = list.values.iter().map(|value| match &value.kind {
                Some(Kind::StringValue(text)) => text.clone(),
                other => panic!("{other:?}"),
            });
            texts.collect::<Vec<_>>().join(" ")
        }
        other => panic!("{other:?}"),
    };
    let fields = &metadata.unwrap().fields;
    fields.iter().map(|(name, value)| (name.clone(), text(value.kind.as_ref().unwrap()))).collect()
}

/// The first answer comes from the database through the whole stack, the second one from the cache.
#[tokio::test]
async fn valid_key_is_admitted_with_its_identity() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Caf\u{e9}").await;
    let (key, key_id) = service.issue_key(&tenant, &["b", "a"]).await;
    let authorization = bearer(&key);
    for (source, headers) in [
        ("database", [("authorization", &*authorization), ("x-tenant-id", "smuggled")]),
        ("fresh", [("x-api-key", &*key), ("authorization", "Basic dTpw")]),
    ] {
        {
            let request = check_request(&headers, &[("scopes", "a"), ("cost", "3")]);
            let response = check(&service, request).await.unwrap();
            let checked = Checked::of(&response);
            let expected =
                [&*tenant, "Caf%C3%A9", "pro", &*key_id, "a b", "", "", source, ""].map(str::to_owned);
            let names: Vec<_> = checked.headers.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, IDENTITY_HEADERS);
            let values: Vec<_> = checked.headers.iter().map(|(_, value)| value.clone()).collect();
            assert_eq!(values, expected);
            assert_eq!(checked.removed, [headers[0].0], "only the header with the key");
            let metadata = metadata(response.dynamic_metadata.as_ref());
            let expected = [
                ("tenant_id", &*tenant),
                ("tenant_name", "Caf\u{e9}"),
                ("plan", "pro"),
                ("key_id", &*key_id),
                ("scopes", "a b"),
                ("source", source),
                ("cost", "3"),
            ];
            assert_eq!(metadata, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        }
    }
}

/// With and without the cache, for both forms of headers.
#[tokio::test]
async fn each_denial_has_its_status_and_code() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = TestService::start_at(&database, &clock).await;
    for denied in denied_keys(&service, &clock).await {
        let authorization = bearer(&denied.key);
        let headers = [("authorization", &*authorization)];
        for request in
            [check_request(&headers, &[("scopes", "a")]), raw_check_request(&headers, &[("scopes", "a")])]
        {
            let response = check(&service, request).await.unwrap();
            let checked = Checked::of(&response);
            assert_eq!((checked.status, &*problem_code(&checked.body)), (denied.status, denied.code));
            assert_eq!(checked.header("content-type"), Some("application/problem+json"));
            assert_eq!(checked.header("cache-control"), Some("no-store"));
            let has_challenge = denied.status == 401 || denied.code == "INSUFFICIENT_SCOPE";
            assert_eq!(checked.header("www-authenticate").is_some(), has_challenge, "{}", denied.code);
            assert_eq!(metadata(response.dynamic_metadata.as_ref())["code"], denied.code);
        }
    }
}

#[tokio::test]
async fn missing_and_different_credentials_are_distinguished() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let status = async |request| {
        let checked = Checked::of(&check(&service, request).await.unwrap());
        (checked.status, problem_code(&checked.body))
    };
    let none = (401, "NO_CREDENTIALS".to_owned());
    assert_eq!(status(check_request(&[("authorization", "Basic dTpw")], &[])).await, none);
    assert_eq!(status(raw_check_request(&[], &[])).await, none);
    let two = (400, "AMBIGUOUS_REQUEST".to_owned());
    let headers = [("authorization", "Bearer key-number-1"), ("x-api-key", "key-number-2")];
    assert_eq!(status(check_request(&headers, &[])).await, two);
    let headers = [("x-api-key", "key-number-1"), ("x-api-key", "key-number-2")];
    assert_eq!(status(raw_check_request(&headers, &[])).await, two);
}

#[tokio::test]
async fn address_of_the_connection_decides_about_networks() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let issue = v1::IssueKeyRequest {
        tenant_id: tenant,
        allowed_networks: owned(&["192.0.2.0/24"]),
        ..Default::default()
    };
    let key = service.admin().issue_key(issue).await.unwrap().into_inner().plaintext;
    let authorization = bearer(&key);
    let headers = [("authorization", &*authorization), ("x-forwarded-for", "192.0.2.1")];
    for (address, expected) in [
        ("192.0.2.7", "200"),
        ("203.0.113.1", "ADDRESS_NOT_ALLOWED"),
        ("/run/envoy.sock", "ADDRESS_REQUIRED"),
        ("", "ADDRESS_REQUIRED"),
    ] {
        for request in [check_request(&headers, &[]), raw_check_request(&headers, &[])] {
            let checked = Checked::of(&check(&service, from_address(request, address)).await.unwrap());
            let outcome = if checked.status == 200 { "200".to_owned() } else { problem_code(&checked.body) };
            assert_eq!(outcome, expected, "{address}");
        }
    }
}

#[tokio::test]
async fn undecided_request_is_503_and_never_a_grpc_error() {
    for (as_error, flag) in [(false, "false"), (true, "true")] {
        let database = TestDatabase::test_server().await;
        let settings =
            database.settings().with_flag("TENANT_AUTH_ENVOY_ERROR_RESPONSE", Some(flag.to_owned()));
        let service = TestService::start_with(settings, SystemClock::shared()).await;
        database.server().faults().set(Fault::ResetBeforeExecute);
        let authorization = bearer(&unknown_key());
        let request = check_request(&[("authorization", &authorization)], &[]);
        let checked = Checked::of(&check(&service, request).await.unwrap());
        assert_eq!((checked.status, &*problem_code(&checked.body)), (503, "UNDECIDED"));
        assert_eq!(checked.header("retry-after"), Some("1"));
        assert_eq!(checked.is_error_response, as_error);
        // A denial is no error of the filter.
        let request = check_request(&[("authorization", "Bearer x")], &[]);
        let checked = Checked::of(&check(&service, request).await.unwrap());
        assert_eq!((checked.status, checked.is_error_response), (401, false));
        let metrics = Scrape::collect(&service).await;
        let undecided = "grpc_server_handled_total{grpc_type=\"unary\",grpc_service=\"envoy.service.auth.v3.Authorization\",grpc_method=\"Check\",grpc_code=\"Unavailable\"}";
        assert_eq!(metrics.value(undecided), 1.0, "the metrics know that it failed");
        let doors = "tenant_auth_front_door_requests_total{door=\"ext_authz\",code=\"UNDECIDED\"}";
        assert_eq!(metrics.value(doors), 1.0);
    }
}

#[tokio::test]
async fn misconfigured_route_is_503_and_names_the_setting() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    for (setting, value) in [("scope", "a"), ("scopes", "A"), ("cost", "many"), ("audience", "")] {
        let request = check_request(&[("authorization", "Bearer key-number-1")], &[(setting, value)]);
        let checked = Checked::of(&check(&service, request).await.unwrap());
        assert_eq!((checked.status, &*problem_code(&checked.body)), (503, "PROXY_MISCONFIGURED"));
        assert!(checked.body.contains(&format!("context_extensions[{setting}]")), "{}", checked.body);
    }
}

/// Whatever is wrong with the call itself: Envoy would answer 403 to a gRPC error.
#[tokio::test]
async fn rejected_call_is_503_and_never_a_grpc_error() {
    let database = TestDatabase::test_server().await;
    let file = CallersFile::new(&[("envoy", Role::Proxy, &["proxy"]), ("api", Role::Validator, &["api"])]);
    let service = file.service(&database).await;
    let message = check_request(&[("authorization", "Bearer short")], &[]).encode_to_vec();
    let not_a_message = vec![0xff; 9];
    for (token, message, status, code) in [
        (Some("Bearer proxy"), &message, 401, "MALFORMED"),
        (None, &message, 503, "UNKNOWN_CALLER"),
        (Some("Bearer guess"), &message, 503, "UNKNOWN_CALLER"),
        (Some("Bearer api"), &message, 503, "UNKNOWN_CALLER"),
        (Some("Bearer proxy"), &not_a_message, 503, "PROXY_MISCONFIGURED"),
    ] {
        let answer = call_bytes(&service.channel, CHECK, token, message).await;
        let response = answer.unwrap_or_else(|status| panic!("{token:?}: {status:?}"));
        let checked = Checked::of(
            &tenant_auth_proto::envoy::service::auth::v3::CheckResponse::decode(&*response).unwrap(),
        );
        assert_eq!((checked.status, &*problem_code(&checked.body)), (status, code), "{token:?}");
    }
    // The role opens nothing else.
    let answer = call_bytes(
        &service.channel,
        "/tenantauth.v1.ValidationService/ValidateKey",
        Some("Bearer proxy"),
        &[],
    )
    .await;
    assert_eq!(answer.unwrap_err().code(), Code::PermissionDenied);
}
