//! A denial can be traced to its key, tenant and request, if the log is configured for it.

use serde_json::Value;
use tenant_auth_proto::v1::{
    self, admin_service_client::AdminServiceClient, session_service_client::SessionServiceClient,
    validation_service_client::ValidationServiceClient,
};
use tenant_auth_testkit::HranaServer;
use tonic::{Request, transport::Channel};

use crate::harness::{program::RunningProgram, unknown_key};

const DENIAL_LOG_FILTER: &str = "info,tenant_auth::denied=debug";

/// Builds a request with a request id.
fn request_with_id<T>(message: T, id: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-request-id", id.parse().unwrap());
    request
}

fn validate_request(key: &str) -> v1::ValidateKeyRequest {
    v1::ValidateKeyRequest { key: key.to_owned(), required_scopes: Vec::new(), ..Default::default() }
}

/// Creates a tenant with two keys. Returns the text and id of each key.
async fn tenant_with_two_keys(channel: &Channel) -> (String, [(String, String); 2]) {
    let mut admin = AdminServiceClient::new(channel.clone());
    let request =
        v1::CreateTenantRequest { name: "Acme".to_owned(), plan: "pro".to_owned(), ..Default::default() };
    let tenant = admin.create_tenant(request).await.unwrap().into_inner().tenant.unwrap().tenant_id;
    let mut keys = Vec::new();
    for _ in 0..2 {
        let request = v1::IssueKeyRequest {
            tenant_id: tenant.clone(),
            name: "test".to_owned(),
            scopes: Vec::new(),
            expires_at: None,
            ..Default::default()
        };
        let issued = admin.issue_key(request).await.unwrap().into_inner();
        keys.push((issued.plaintext, issued.key.unwrap().key_id));
    }
    (tenant, keys.try_into().unwrap())
}

async fn revoke(channel: &Channel, key_id: &str) {
    let request = v1::RevokeKeyRequest { key_id: key_id.to_owned(), reason: "test".to_owned() };
    AdminServiceClient::new(channel.clone()).revoke_key(request).await.unwrap();
}

/// Returns the log lines about denials.
fn denial_lines(lines: &[String]) -> Vec<Value> {
    let lines = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["target"] == "tenant_auth::denied").collect()
}

#[tokio::test]
async fn denial_log_names_key_tenant_and_request() {
    let database = HranaServer::builder().start().await.unwrap();
    let program = RunningProgram::start_logging(&database, DENIAL_LOG_FILTER).await;
    let channel = program.channel();
    let mut client = ValidationServiceClient::new(channel.clone());
    let (tenant, [good, bad]) = tenant_with_two_keys(&channel).await;
    let session = v1::BindSessionRequest {
        session_id: "session-1".to_owned(),
        key: bad.0.clone(),
        ttl: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..Default::default()
    };
    let mut sessions = SessionServiceClient::new(channel.clone());
    sessions.bind_session(session.clone()).await.unwrap();
    for (key, _) in [&good, &bad] {
        assert_eq!(
            client.validate_key(validate_request(key)).await.unwrap().into_inner().verdict(),
            v1::Verdict::Valid
        );
    }
    revoke(&channel, &bad.1).await;

    // The first is answered from the database or the cache, the second certainly from the cache.
    for id in ["first", "second"] {
        let answer =
            client.validate_key(request_with_id(validate_request(&bad.0), id)).await.unwrap().into_inner();
        assert_eq!(answer.verdict(), v1::Verdict::Revoked);
    }
    client.validate_key(request_with_id(validate_request(&good.0), "good")).await.unwrap();
    let batch =
        v1::BatchValidateKeysRequest { requests: vec![validate_request(&good.0), validate_request(&bad.0)] };
    client.batch_validate_keys(request_with_id(batch, "batch")).await.unwrap();
    let message =
        v1::StreamValidateKeysRequest { correlation_id: 7, request: Some(validate_request(&bad.0)) };
    let mut answers = client
        .stream_validate_keys(request_with_id(futures::stream::iter([message]), "stream"))
        .await
        .unwrap()
        .into_inner();
    answers.message().await.unwrap().unwrap();
    assert!(answers.message().await.unwrap().is_none());
    let validation = v1::ValidateSessionRequest { session_id: "session-1".to_owned(), ..Default::default() };
    client.validate_session(request_with_id(validation, "session")).await.unwrap();
    sessions.bind_session(request_with_id(session, "bind")).await.unwrap();
    let strange = unknown_key();
    client.validate_key(request_with_id(validate_request(&strange), "unknown")).await.unwrap();

    let lines = program.stop().await;
    let denials_logged = denial_lines(&lines);
    for id in ["first", "second", "batch", "stream", "session", "bind"] {
        let of_it: Vec<_> = denials_logged.iter().filter(|line| line["request_id"] == id).collect();
        assert_eq!(of_it.len(), 1, "{id}: {denials_logged:#?}");
        let line = of_it[0];
        assert_eq!(
            (&line["verdict"], &line["key_id"]),
            (&Value::from("revoked"), &Value::from(bad.1.as_str())),
            "{line}"
        );
        assert_eq!(line["tenant_id"], tenant.as_str(), "{line}");
        assert!(line["rpc.method"].as_str().unwrap().starts_with("tenantauth.v1."), "{line}");
        assert!(!line["caller"].as_str().unwrap().is_empty(), "{line}");
    }
    let unknown = denials_logged.iter().find(|line| line["request_id"] == "unknown").unwrap();
    assert!(unknown["verdict"] == "unknown" && unknown["key_id"].is_null(), "{unknown}");
    assert!(denials_logged.iter().all(|line| line["request_id"] != "good"), "{denials_logged:#?}");
    for key in [&good.0, &bad.0, &strange] {
        assert!(!lines.iter().any(|line| line.contains(key.as_str())), "a key is in the log");
    }
}

#[tokio::test]
async fn flood_of_denials_is_sampled_and_counted_in_log() {
    let database = HranaServer::builder().start().await.unwrap();
    let program = RunningProgram::start_logging(&database, DENIAL_LOG_FILTER).await;
    let channel = program.channel();
    let (_, [(key, id), (other, other_id)]) = tenant_with_two_keys(&channel).await;
    revoke(&channel, &id).await;
    revoke(&channel, &other_id).await;
    let mut client = ValidationServiceClient::new(channel.clone());
    let requests = vec![validate_request(&key); 500];
    for _ in 0..4 {
        let batch = v1::BatchValidateKeysRequest { requests: requests.clone() };
        client.batch_validate_keys(batch).await.unwrap();
    }
    client.validate_key(request_with_id(validate_request(&other), "the-other")).await.unwrap();
    let lines = program.stop().await;
    let denials_logged = denial_lines(&lines);
    let of_it: Vec<_> = denials_logged.iter().filter(|line| line["key_id"] == id.as_str()).collect();
    let count: u64 = of_it.iter().map(|line| line["suppressed_lines"].as_u64().unwrap_or(1)).sum();
    assert_eq!(count, 2_000);
    assert!(of_it.len() < 30, "{} lines", of_it.len());
    assert!(
        denials_logged.iter().any(|line| line["request_id"] == "the-other"),
        "another key has its own lines"
    );
}

#[tokio::test]
async fn undecided_request_is_logged_without_key() {
    let database = HranaServer::builder().start().await.unwrap();
    let program = RunningProgram::start_logging(&database, DENIAL_LOG_FILTER).await;
    let mut client = ValidationServiceClient::new(program.channel());
    database.faults().set(tenant_auth_testkit::Fault::blocked());
    client.validate_key(request_with_id(validate_request(&unknown_key()), "undecided")).await.unwrap_err();
    database.faults().clear();
    let denials_logged = denial_lines(&program.stop().await);
    let line = denials_logged.iter().find(|line| line["request_id"] == "undecided").unwrap();
    assert!(line["reason"] == "blocked" && line["key_id"].is_null() && line["verdict"].is_null(), "{line}");
}

#[tokio::test]
async fn denials_are_logged_only_on_request() {
    let database = HranaServer::builder().start().await.unwrap();
    let program =
        RunningProgram::start_logging(&database, "debug,tenant_auth::denied=off,h2=off,hyper=off").await;
    let mut client = ValidationServiceClient::new(program.channel());
    client.validate_key(validate_request(&unknown_key())).await.unwrap();
    assert_eq!(denial_lines(&program.stop().await), Vec::<Value>::new());
}
