//! Every malformed call is answered with INVALID_ARGUMENT and the field's name, without a database request.

use prost_types::{Duration, Timestamp};
use tenant_auth_proto::v1::{self, Verdict};
use tonic::Code;
use tonic_types::RpcStatusExt as _;

use crate::harness::{TestDatabase, TestService, owned, violated_fields};

#[tokio::test]
async fn validation() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let requests = database.caller_requests();
    let ask = |key: &str, scopes: &[&str]| v1::ValidateKeyRequest {
        key: key.to_owned(),
        required_scopes: owned(scopes),
        ..Default::default()
    };
    let long = "a".repeat(65);
    for (request, expected) in [
        (ask("", &[]), &["key"][..]),
        (ask("some-good-key", &["ok", "", "ok"]), &["required_scopes[1]"]),
        (ask("some-good-key", &["UPPER"]), &["required_scopes[0]"]),
        (ask("some-good-key", &[&long]), &["required_scopes[0]"]),
        (ask("some-good-key", &["a"; 33]), &["required_scopes"]),
        (ask("", &["!"]), &["key", "required_scopes[0]"]),
    ] {
        let refused = service.validation().validate_key(request.clone()).await.unwrap_err();
        assert_eq!(violated_fields(refused), expected, "{request:?}");
    }
    let batch = |requests| v1::BatchValidateKeysRequest { requests };
    for request in [batch(vec![]), batch(vec![ask("some-good-key", &[]); 1_001])] {
        let refused = service.validation().batch_validate_keys(request).await.unwrap_err();
        assert_eq!(violated_fields(refused), ["requests"]);
    }
    assert_eq!(database.caller_requests(), requests);
}

/// The error is at the entry's index, and does not depend on the database.
#[tokio::test]
async fn malformed_batch_entry_fails_alone_over_the_wire() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, _) = service.issue_key(&tenant, &["a"]).await;
    let ask = |key: &str, scopes: &[&str]| v1::ValidateKeyRequest {
        key: key.to_owned(),
        required_scopes: owned(scopes),
        ..Default::default()
    };
    let requests = vec![
        ask("", &[]),
        ask(&key, &["a"]),
        ask(&key, &["a", "B!"]),
        ask(&"k".repeat(100_000), &[]),
        ask("", &["!"]),
        ask("an-unknown-key", &[]),
        ask(&key, &["a"; 33]),
    ];
    let refused = |fields: &[&str]| Err(owned(fields));
    let expected = [
        refused(&["key"]),
        Ok(Verdict::Valid),
        refused(&["required_scopes[1]"]),
        Ok(Verdict::Malformed),
        refused(&["key", "required_scopes[0]"]),
        Ok(Verdict::Unknown),
        refused(&["required_scopes"]),
    ];
    // First answered by the database, then from the cache.
    for _ in 0..2 {
        assert_eq!(batch_outcomes(&service, requests.clone()).await, expected);
    }
    let wrong = vec![ask("", &[]); 1_000];
    assert_eq!(batch_outcomes(&service, wrong).await, vec![refused(&["key"]); 1_000]);
}

async fn batch_outcomes(
    service: &TestService,
    requests: Vec<v1::ValidateKeyRequest>,
) -> Vec<Result<Verdict, Vec<String>>> {
    use v1::batch_validate_keys_result::Result as Outcome;

    let batch = v1::BatchValidateKeysRequest { requests };
    let results = service.validation().batch_validate_keys(batch).await.unwrap().into_inner().results;
    let outcome = |result: v1::BatchValidateKeysResult| match result.result.unwrap() {
        Outcome::Response(response) => Ok(response.verdict()),
        Outcome::Error(error) => Err(error_fields(&error)),
    };
    results.into_iter().map(outcome).collect()
}

/// Returns the violated fields of an entry that fails alone.
fn error_fields(error: &tonic_types::Status) -> Vec<String> {
    assert_eq!(Code::from(error.code), Code::InvalidArgument, "{error:?}");
    let bad = error.get_details_bad_request().unwrap();
    bad.field_violations.into_iter().map(|violation| violation.field).collect()
}

#[tokio::test]
async fn tenants() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let requests = database.caller_requests();
    let mut admin = service.admin();
    let create = |id: &str, name: &str, plan: &str| v1::CreateTenantRequest {
        tenant_id: id.to_owned(),
        name: name.to_owned(),
        plan: plan.to_owned(),
    };
    let long = "x".repeat(65);
    for (request, expected) in [
        (create("", "", ""), &["name"][..]),
        (create("a b", "ok", ""), &["tenant_id"]),
        (create(&long, &long, &long), &["tenant_id", "name", "plan"]),
        (create("", "two\nlines", "pro\u{1b}"), &["name", "plan"]),
    ] {
        assert_eq!(violated_fields(admin.create_tenant(request).await.unwrap_err()), expected);
    }
    let get = v1::GetTenantRequest::default();
    assert_eq!(violated_fields(admin.get_tenant(get).await.unwrap_err()), ["tenant_id"]);
    let suspend = v1::SuspendTenantRequest { tenant_id: "ten/1".to_owned(), reason: String::new() };
    assert_eq!(violated_fields(admin.suspend_tenant(suspend).await.unwrap_err()), ["tenant_id", "reason"]);
    let resume = v1::ResumeTenantRequest::default();
    assert_eq!(violated_fields(admin.resume_tenant(resume).await.unwrap_err()), ["tenant_id"]);
    for (page_size, token, expected) in
        [(-1, "", "page_size"), (0, "!!", "page_token"), (0, "w6Q", "page_token"), (0, "YSBi", "page_token")]
    {
        let list = v1::ListTenantsRequest { page_size, page_token: token.to_owned(), ..Default::default() };
        let by_name = v1::ListTenantsRequest { name_prefix: "a".to_owned(), ..list.clone() };
        for list in [list, by_name] {
            assert_eq!(violated_fields(admin.list_tenants(list).await.unwrap_err()), [expected], "{token}");
        }
    }
    assert_eq!(database.caller_requests(), requests);
}

#[tokio::test]
async fn keys() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let requests = database.caller_requests();
    let mut admin = service.admin();
    let timestamp = |seconds| Some(Timestamp { seconds, nanos: 0 });
    let issue = |tenant: &str, scopes: &[&str], expires_at| v1::IssueKeyRequest {
        tenant_id: tenant.to_owned(),
        name: "x".repeat(64),
        scopes: owned(scopes),
        expires_at,
        ..Default::default()
    };
    for (request, expected) in [
        (issue("", &[], None), &["tenant_id"][..]),
        (issue(&tenant, &["ok", "NO"], None), &["scopes[1]"]),
        (issue(&tenant, &["a"; 33], None), &["scopes"]),
        (issue(&tenant, &[], timestamp(1_000)), &["expires_at"]),
        (issue(&tenant, &[], timestamp(-1)), &["expires_at"]),
        (issue(&tenant, &[], timestamp(i64::MAX)), &["expires_at"]),
    ] {
        assert_eq!(
            violated_fields(admin.issue_key(request.clone()).await.unwrap_err()),
            expected,
            "{request:?}"
        );
    }
    let rotate = |overlap, expires_at| v1::RotateKeyRequest {
        key_id: "key_1".to_owned(),
        overlap,
        expires_at,
        no_expiry: false,
        ..Default::default()
    };
    let span = |seconds| Some(Duration { seconds, nanos: 0 });
    for (request, expected) in [
        (rotate(span(-1), None), "overlap"),
        (rotate(span(91 * 86_400), None), "overlap"),
        (rotate(None, timestamp(1)), "expires_at"),
    ] {
        assert_eq!(violated_fields(admin.rotate_key(request).await.unwrap_err()), [expected]);
    }
    let revoke = v1::RevokeKeyRequest { key_id: String::new(), reason: "x".repeat(257) };
    assert_eq!(violated_fields(admin.revoke_key(revoke).await.unwrap_err()), ["key_id", "reason"]);
    let list = v1::ListKeysRequest { page_size: -5, page_token: "?".to_owned(), ..Default::default() };
    assert_eq!(
        violated_fields(admin.list_keys(list.clone()).await.unwrap_err()),
        ["tenant_id", "page_size", "page_token"]
    );
    let by_name = v1::ListKeysRequest { name_prefix: "ü".repeat(65), ..list.clone() };
    let wrong = violated_fields(admin.list_keys(by_name.clone()).await.unwrap_err());
    assert_eq!(wrong, ["name_prefix", "page_size", "page_token"]);
    let by_both = v1::ListKeysRequest { prefix: "k".to_owned(), ..by_name };
    assert_eq!(violated_fields(admin.list_keys(by_both).await.unwrap_err()), ["name_prefix"]);
    let by_prefix = v1::ListKeysRequest { prefix: "k".repeat(25), tenant_id: "a b".to_owned(), ..list };
    let wrong = violated_fields(admin.list_keys(by_prefix).await.unwrap_err());
    assert_eq!(wrong, ["tenant_id", "prefix", "page_size", "page_token"]);
    let audit = v1::ListAuditEventsRequest {
        tenant_id: "a b".to_owned(),
        page_token: "eA".to_owned(),
        target: "x".repeat(129),
        caller: "a caller".to_owned(),
        since: timestamp(2),
        until: timestamp(2),
        page_size: 0,
        action: "key revoke".to_owned(),
    };
    let wrong = violated_fields(admin.list_audit_events(audit).await.unwrap_err());
    assert_eq!(wrong, ["tenant_id", "target", "caller", "action", "until", "page_token"]);
    for key_id in ["", "a b"] {
        let get = v1::GetKeyRequest { key_id: key_id.to_owned() };
        assert_eq!(violated_fields(admin.get_key(get).await.unwrap_err()), ["key_id"]);
        let inspect = v1::InspectKeyRequest { key_id: key_id.to_owned() };
        assert_eq!(violated_fields(admin.inspect_key(inspect).await.unwrap_err()), ["key_id"]);
    }

    let import = |keys| v1::ImportKeysRequest { keys };
    let short = v1::ImportKey { tenant_id: tenant.clone(), sha256: vec![1; 31], ..Default::default() };
    let good = v1::ImportKey { sha256: vec![1; 32], ..short.clone() };
    for request in [import(vec![]), import(vec![good.clone(); 501])] {
        assert_eq!(violated_fields(admin.import_keys(request).await.unwrap_err()), ["keys"]);
    }
    let all_wrong = admin.import_keys(import(vec![short.clone()])).await.unwrap().into_inner();
    assert_eq!(import_outcomes(all_wrong), [Err(owned(&["sha256"]))]);
    assert_eq!(database.caller_requests(), requests);
    let mixed = vec![short, good.clone(), v1::ImportKey::default(), good];
    let mixed = import_outcomes(admin.import_keys(import(mixed)).await.unwrap().into_inner());
    let empty = Err(owned(&["tenant_id", "sha256"]));
    assert_eq!(mixed, [Err(owned(&["sha256"])), Ok("new"), empty, Ok("there")]);
}

/// Returns the outcome of each key, or its invalid fields.
fn import_outcomes(response: v1::ImportKeysResponse) -> Vec<Result<&'static str, Vec<String>>> {
    use v1::import_key_result::Result as Outcome;

    let outcome = |result: v1::ImportKeyResult| match result.result.unwrap() {
        Outcome::ImportedKeyId(_) => Ok("new"),
        Outcome::ExistingKeyId(_) => Ok("there"),
        Outcome::Different(_) => Ok("different"),
        Outcome::Error(error) => Err(error_fields(&error)),
    };
    response.results.into_iter().map(outcome).collect()
}

#[tokio::test]
async fn usage() {
    use tenant_auth_proto::v1::usage_service_client::UsageServiceClient;
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let requests = database.caller_requests();
    let mut usage = UsageServiceClient::new(service.channel.clone());
    let record = |id: &str, events| v1::RecordUsageRequest {
        request_id: id.to_owned(),
        events: vec![v1::UsageEvent::default(); events],
    };
    for (request, expected) in [
        (record("", 1), &["request_id"][..]),
        (record("a", 0), &["events"]),
        (record("a", 501), &["events"]),
        (record(&"x".repeat(129), 0), &["request_id", "events"]),
        (record("two\nlines", 1), &["request_id"]),
    ] {
        assert_eq!(violated_fields(usage.record_usage(request).await.unwrap_err()), expected);
    }
    let timestamp = |seconds| Some(Timestamp { seconds, nanos: 0 });
    let query = |metric: &str, start, end| v1::QueryUsageRequest {
        tenant_id: "acme".to_owned(),
        metric: metric.to_owned(),
        start_time: start,
        end_time: end,
        ..Default::default()
    };
    for (request, expected) in [
        (v1::QueryUsageRequest::default(), &["tenant_id", "start_time", "end_time"][..]),
        (query("Calls", timestamp(1), timestamp(2)), &["metric"]),
        (query("", timestamp(2), timestamp(2)), &["end_time"]),
        (query("", timestamp(-1), None), &["start_time", "end_time"]),
        (v1::QueryUsageRequest { bucket: 9, ..query("", timestamp(1), timestamp(2)) }, &["bucket"]),
        (
            v1::QueryUsageRequest {
                page_size: -1,
                page_token: "YSBi".to_owned(),
                ..query("", timestamp(1), timestamp(2))
            },
            &["page_size", "page_token"],
        ),
    ] {
        assert_eq!(violated_fields(usage.query_usage(request).await.unwrap_err()), expected);
    }
    assert_eq!(database.caller_requests(), requests);
}

#[tokio::test]
async fn oversized_request_is_refused() {
    let database = TestDatabase::embedded();
    let service = TestService::start(&database).await;
    let request = v1::ValidateKeyRequest {
        key: "x".repeat(2 * 1024 * 1024),
        required_scopes: Vec::new(),
        ..Default::default()
    };
    let refused = service.validation().validate_key(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
}

#[tokio::test]
async fn sessions() {
    use tenant_auth_proto::v1::session_service_client::SessionServiceClient;
    let database = TestDatabase::embedded();
    let service = TestService::start(&database).await;
    let mut client = SessionServiceClient::new(service.channel.clone());
    let empty = client.bind_session(v1::BindSessionRequest::default()).await.unwrap_err();
    assert_eq!(violated_fields(empty), ["key", "session_id", "ttl"]);
    let wrong = v1::BindSessionRequest {
        session_id: "two words".to_owned(),
        key: "key".to_owned(),
        ttl: Some(Duration { seconds: 59, nanos: 0 }),
        expiry: v1::SessionExpiry::Sliding.into(),
        attributes: (0..17).map(|number| (number.to_string(), String::new())).collect(),
        client_address: "192.0.2.1, 192.0.2.2".to_owned(),
    };
    let wrong = client.bind_session(wrong).await.unwrap_err();
    assert!(wrong.message().contains("at least 60s for a sliding session"), "{wrong:?}");
    assert_eq!(violated_fields(wrong), ["session_id", "ttl", "attributes", "client_address"]);
    let empty = client.unbind_session(v1::UnbindSessionRequest::default()).await.unwrap_err();
    assert_eq!(violated_fields(empty), ["session_id", "tenant_id"]);
    let wrong =
        v1::ListSessionsRequest { tenant_id: String::new(), page_size: -1, page_token: "x".to_owned() };
    let wrong = client.list_sessions(wrong).await.unwrap_err();
    assert_eq!(violated_fields(wrong), ["tenant_id", "page_size", "page_token"]);
    let request = v1::ValidateSessionRequest { required_scopes: owned(&["A B"]), ..Default::default() };
    let wrong = service.validation().validate_session(request).await.unwrap_err();
    assert_eq!(violated_fields(wrong), ["session_id", "required_scopes[0]"]);
}
