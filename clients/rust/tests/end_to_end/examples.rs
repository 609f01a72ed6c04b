//! Runs the examples as users do.

use std::time::SystemTime;

use serde_json::{Value, json};
use tenant_auth_client::BindSession;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{Service, WAIT_TIMEOUT, example::Example, usage_sum};

const HOUR: u64 = 3_600_000;

#[tokio::test]
async fn http_api_example_admits_and_rejects_keys() {
    let service = Service::start().await;
    let key = service.key().await;
    let environment = [("TENANT_AUTH_ENDPOINT", service.endpoint()), ("LISTEN", "127.0.0.1:0".to_owned())];
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut example = Example::start("http_api", &environment);
    let address = example.line().await.strip_prefix("listening on http://").unwrap().to_owned();
    let get = async |path: &str, key: Option<&str>| {
        let key = key.map_or_else(String::new, |key| format!("authorization: Bearer {key}\r\n"));
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{key}\r\n");
        let mut connection = TcpStream::connect(&address).await.unwrap();
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let key = Some(key.expose());
    let answer = get("/whoami", key).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("acme on the plan pro\n"), "{answer}");
    let answer = get("/whoami", None).await;
    assert!(
        answer.starts_with("HTTP/1.1 401 ") && answer.contains("www-authenticate: Bearer\r\n"),
        "{answer}"
    );
    assert!(get("/whoami", Some("some-strange-key")).await.starts_with("HTTP/1.1 401 "));
    assert!(get("/everything", key).await.starts_with("HTTP/1.1 403 "));
    service.running.stop().await;
    // The service is down: the error is not the customer's.
    let answer = get("/whoami", Some("another-strange-key")).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1\r\n"), "{answer}");
}

#[tokio::test]
async fn worker_example_runs_jobs_of_valid_sessions() {
    let service = Service::start().await;
    let key = service.key().await;
    let session = BindSession::new("s-1", WAIT_TIMEOUT);
    assert!(service.client.bind_session(session, &key).await.unwrap().verdict.is_valid());
    let mut example = Example::start("worker", &[("TENANT_AUTH_ENDPOINT", &service.endpoint())]);
    example.send_line("s-1 3").await;
    assert_eq!(example.line().await, "done: 3 units for acme");
    example.send_line("s-2 4").await;
    assert_eq!(example.line().await, "refused: s-2 is UNBOUND");
    assert!(example.exited_successfully().await);
    assert_eq!(usage_sum(&service.client, "acme").await, Ok(3));
}

#[tokio::test]
async fn conformance_runner_answers_every_command() {
    let service = Service::start().await;
    let key = service.key().await;
    let endpoint = service.running.address().to_string();
    let mut example = Example::start("conformance", &[("TENANT_AUTH_ENDPOINTS", &endpoint)]);
    assert_eq!(example.line().await, r#"{"ready":true}"#);
    let key = key.expose();

    let answer = example
        .run_command(json!({"id": 1, "op": "validate_key", "key": key, "scopes": ["demo:read"]}))
        .await;
    assert_eq!(
        (&answer["id"], &answer["verdict"], &answer["tenant_id"]),
        (&json!(1), &json!("VALID"), &json!("acme"))
    );
    let again =
        example.run_command(json!({"id": 2, "op": "validate_key", "key": key, "scopes": ["a"]})).await;
    assert_eq!((&again["verdict"], &again["source"]), (&json!("INSUFFICIENT_SCOPE"), &json!("NEAR")));
    assert_eq!(again["missing_scopes"], json!(["a"]));
    let invalid = example.run_command(json!({"id": 3, "op": "validate_key", "key": "", "scopes": []})).await;
    assert_eq!((&invalid["error"], &invalid["fields"]), (&json!("INVALID_ARGUMENT"), &json!(["key"])));
    let many =
        json!({"id": 4, "op": "validate_key_concurrently", "key": key, "times": 100, "timeout_ms": 5_000});
    assert_eq!(example.run_command(many).await["verdicts"], json!({"VALID": 100}));
    let batch = example
        .run_command(json!({"id": 5, "op": "validate_keys", "keys": [key, "stranger"], "scopes": []}))
        .await;
    assert_eq!(
        (&batch["items"][0]["verdict"], &batch["items"][1]["verdict"]),
        (&json!("VALID"), &json!("UNKNOWN"))
    );

    let bind = json!({"id": 6, "op": "bind_session", "session_id": "s", "key": key, "ttl_ms": 60_000, "attributes": {}});
    let bound = example.run_command(bind).await;
    assert_eq!((&bound["verdict"], &bound["already_bound"]), (&json!("VALID"), &json!(false)));
    let session =
        example.run_command(json!({"id": 7, "op": "validate_session", "session_id": "s", "key": key})).await;
    assert_eq!(session["verdict"], "VALID");
    let unbind = json!({"id": 8, "op": "unbind_session", "session_id": "s", "tenant_id": "acme"});
    assert_eq!(example.run_command(unbind).await["was_bound"], true);

    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
    let hour = at / HOUR * HOUR;
    let event =
        |tenant: &str| json!({"tenant_id": tenant, "metric": "calls", "quantity": 2, "occurred_at_ms": at});
    let events = [event("acme"), event("nobody"), event("acme")];
    let record = json!({"id": 13, "op": "record_usage", "request_id": "r", "events": events});
    let recorded = example.run_command(record).await;
    assert_eq!((&recorded["accepted"], &recorded["already_recorded"]), (&json!(2), &json!(false)));
    assert_eq!(recorded["rejected"], json!([{"index": 1, "error": "NOT_FOUND"}]));
    let query = json!({"id": 14, "op": "query_usage", "tenant_id": "acme", "metric": "calls", "start_ms": hour, "end_ms": hour + HOUR, "bucket": "HOUR"});
    let sums = json!([{"metric": "calls", "bucket_start_ms": hour, "quantity": 4}]);
    assert_eq!(example.run_command(query).await["sums"], sums);

    let require =
        |id: u32, scopes: &[&str]| json!({"id": id, "op": "require_key", "key": key, "scopes": scopes});
    let admitted = example.run_command(require(15, &["demo:read"])).await;
    assert_eq!(admitted["principal"]["tenant_id"], "acme");
    let denied = example.run_command(require(16, &["b", "a"])).await;
    assert_eq!(
        (&denied["denied"], &denied["missing_scopes"]),
        (&json!("INSUFFICIENT_SCOPE"), &json!(["a", "b"]))
    );
    assert_eq!(example.run_command(require(17, &["Not A Scope"])).await["error"], "INVALID_ARGUMENT");
    let load = json!({"id": 18, "op": "load", "key": key, "scopes": [], "calls": 20, "interval_ms": 1, "concurrency": 2, "timeout_ms": 5_000});
    let report = example.run_command(load).await;
    assert_eq!(
        (&report["ok"], &report["verdicts"], &report["errors"]),
        (&json!(20), &json!({"VALID": 20}), &json!({}))
    );
    assert_eq!(report["latency_ms"].as_array().unwrap().len(), 20);
    let many = |id: u32, tenant: &str| json!({"id": id, "op": "record_many", "tenant_id": tenant, "metric": "many", "count": 700});
    assert_eq!(example.run_command(many(19, "acme")).await["accepted"], 700);
    assert_eq!(example.run_command(many(20, "nobody")).await["rejected"], 700);
    assert_eq!(example.run_command(many(21, "not a tenant")).await["rejected"], 700);

    assert!(example.run_command(json!({"id": 9, "op": "watch_state"})).await["live"].is_boolean());
    assert!(example.run_command(json!({"id": 10, "op": "server_info"})).await["version"].is_string());
    assert_eq!(example.run_command(json!({"id": 11, "op": "dance"})).await["error"], "UNSUPPORTED");
    assert_eq!(
        example.run_command(json!({"id": 12, "op": "close"})).await,
        json!({"id": 12, "closed": true})
    );
}

#[tokio::test]
async fn conformance_runner_reports_setup_errors() {
    for (name, value, expected) in [
        ("TENANT_AUTH_ENDPOINTS", "grpc://a:1", "grpc://a:1"),
        ("TENANT_AUTH_TLS_CA_FILE", "/nowhere.pem", "/nowhere.pem"),
        ("TENANT_AUTH_TLS_CERT_FILE", "/nowhere.pem", "TENANT_AUTH_TLS_KEY_FILE"),
        ("TENANT_AUTH_TOKEN_FILE", "/nowhere", "/nowhere"),
        ("TENANT_AUTH_TOKEN", "two\nlines", "token"),
        ("TENANT_AUTH_TIMEOUT_MS", "0", "timeout"),
    ] {
        let mut example =
            Example::start("conformance", &[("TENANT_AUTH_ENDPOINTS", "127.0.0.1:1"), (name, value)]);
        let answer: Value = serde_json::from_str(&example.line().await).unwrap();
        assert_eq!(answer["ready"], false);
        assert!(answer["error"].as_str().unwrap().contains(expected), "{answer}");
        assert_eq!(example.exit_code().await, Some(2));
    }
}
