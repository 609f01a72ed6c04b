//! The fast path for cache hits. Runs in its own process: a log that shows every RPC disables the fast path,
//! and the log capture of other tests is such a log.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod allocations;
/// The harness of the other tests, which resolves its own files in their folder.
#[allow(dead_code, unused_imports, reason = "this test uses only a part")]
#[path = "../it"]
mod it {
    pub(crate) mod harness;
}
mod raw;

use prost::Message as _;
use tenant_auth_proto::v1;
use tenant_auth_svc::domain::clock::ManualClock;
use tenant_auth_testkit::Fault;

use self::{
    it::harness::{
        self, NOW, TestDatabase, TestService, http_request,
        limits::{consume, consumption, limit_of, per_day, store_limit},
        unknown_key,
    },
    raw::{BATCH_PATH, CONSUME_PATH, Connection, VALIDATE_PATH, validate_request},
};

/// Installs no log capture, for the reason above.
fn capture_log() {}

/// Starts a service with a stopped clock, so that two responses can differ only by their path.
async fn service_with_fixed_clock(database: &TestDatabase) -> TestService {
    TestService::start_at(database, &ManualClock::at(NOW)).await
}

#[tokio::test]
async fn split_request_bypasses_fast_path_with_same_response() {
    let database = TestDatabase::test_server().await;
    let service = service_with_fixed_clock(&database).await;
    let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &["a", "b"]).await;
    let damaged = format!("{key}x");
    for key in [&key, &damaged] {
        service.validate(key).await.unwrap();
    }
    let connection = Connection::open(service.running.address()).await;
    for message in [
        validate_request(&key, &[]),
        validate_request(&key, &["a", "c"]),
        validate_request(&damaged, &[]),
        validate_request("ta_x", &[]),
    ] {
        let message = message.encode_to_vec();
        let short = connection.send(VALIDATE_PATH, &message, &[]).await;
        let full_stack = connection.send_in_pieces(VALIDATE_PATH, &message).await;
        assert_eq!((short.status, &short.message), (0, &full_stack.message));
        assert!(!full_stack.message.is_empty());
        // Only the full middleware stack assigns a request id.
        assert_eq!((short.request_id.is_some(), full_stack.request_id.is_some()), (false, true));
    }
    let requests =
        vec![validate_request(&key, &["b"]), validate_request(&key, &["z"]), validate_request(&key, &[])];
    let batch = v1::BatchValidateKeysRequest { requests }.encode_to_vec();
    let short = connection.send(BATCH_PATH, &batch, &[]).await;
    let full_stack = connection.send_in_pieces(BATCH_PATH, &batch).await;
    assert_eq!((short.status, &short.message), (0, &full_stack.message));
    assert!(short.request_id.is_none() && full_stack.request_id.is_some());
}

#[tokio::test]
async fn cache_miss_or_malformed_request_bypasses_fast_path() {
    let database = TestDatabase::test_server().await;
    let service = service_with_fixed_clock(&database).await;
    let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    service.validate(&key).await.unwrap();
    let connection = Connection::open(service.running.address()).await;
    let unknown =
        connection.send(VALIDATE_PATH, &validate_request(&unknown_key(), &[]).encode_to_vec(), &[]).await;
    assert!(unknown.status == 0 && unknown.request_id.is_some());
    let mixed = vec![validate_request(&key, &[]), validate_request(&unknown_key(), &[])];
    let mixed = v1::BatchValidateKeysRequest { requests: mixed }.encode_to_vec();
    assert!(connection.send(BATCH_PATH, &mixed, &[]).await.request_id.is_some());
    let one_wrong = vec![validate_request(&key, &[]), validate_request("", &[])];
    let one_wrong = v1::BatchValidateKeysRequest { requests: one_wrong }.encode_to_vec();
    let answered = connection.send(BATCH_PATH, &one_wrong, &[]).await;
    assert!(answered.status == 0 && answered.request_id.is_some(), "{answered:?}");
    for (path, wrong) in [
        (VALIDATE_PATH, validate_request("", &[]).encode_to_vec()),
        (VALIDATE_PATH, vec![0xff]),
        (BATCH_PATH, Vec::new()),
    ] {
        let refused = connection.send(path, &wrong, &[]).await;
        assert!(refused.status != 0 && refused.request_id.is_some(), "{refused:?}");
    }
}

#[tokio::test]
async fn fast_path_returns_the_callers_request_id() {
    let database = TestDatabase::embedded();
    let service = service_with_fixed_clock(&database).await;
    let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    service.validate(&key).await.unwrap();
    let connection = Connection::open(service.running.address()).await;
    let message = validate_request(&key, &[]).encode_to_vec();
    let named = connection.send(VALIDATE_PATH, &message, &[("x-request-id", "order-17")]).await;
    assert_eq!(named.request_id.as_deref(), Some("order-17"));
    let unfit = connection.send(VALIDATE_PATH, &message, &[("x-request-id", "two words")]).await;
    assert_eq!(unfit.request_id, None);
}

#[tokio::test]
async fn cache_hit_needs_no_permit() {
    let database = TestDatabase::test_server().await;
    let settings = database.settings().with_flag("TENANT_AUTH_MAX_REQUESTS", Some("1".to_owned()));
    let clock = ManualClock::at(NOW);
    let service = TestService::start_with(settings, clock).await;
    let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    service.validate(&key).await.unwrap();
    database.server().faults().set(Fault::Hang);
    // Of two calls that need a permit, the second is rejected because the first holds it.
    let (one, other) = (unknown_key(), unknown_key());
    let (one, other) = (Box::pin(service.validate(&one)), Box::pin(service.validate(&other)));
    let (refused, held) = futures::future::select(one, other).await.factor_first();
    assert_eq!(refused.unwrap_err().code(), tonic::Code::ResourceExhausted);
    assert_eq!(service.validate(&key).await.unwrap().verdict(), v1::Verdict::Valid);
    drop(held);
}

#[tokio::test]
async fn unauthorized_caller_gets_no_fast_path() {
    let database = TestDatabase::test_server().await;
    let folder = tempfile::tempdir().unwrap();
    let callers = folder.path().join("callers.toml");
    let hash = tenant_auth_svc::domain::access::TokenHash::of("known");
    std::fs::write(
        &callers,
        format!("[[caller]]\nname = 'all'\nroles = ['admin', 'validator']\ntoken_sha256 = ['{hash}']\n"),
    )
    .unwrap();
    // Created while every caller may call everything.
    let key = {
        let service = TestService::start(&database).await;
        let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
        service.running.stop().await;
        key
    };
    let settings =
        database.settings().with_flag("TENANT_AUTH_CALLERS_FILE", Some(callers.display().to_string()));
    let service = TestService::start_with(settings, ManualClock::at(NOW)).await;
    let connection = Connection::open(service.running.address()).await;
    let message = validate_request(&key, &[]).encode_to_vec();
    let known = [("authorization", "Bearer known")];
    for _ in 0..2 {
        assert_eq!(connection.send(VALIDATE_PATH, &message, &known).await.status, 0);
    }
    assert!(
        connection.send(VALIDATE_PATH, &message, &known).await.request_id.is_none(),
        "the fast path answered"
    );
    for headers in [&[][..], &[("authorization", "Bearer unknown")]] {
        assert_eq!(
            connection.send(VALIDATE_PATH, &message, headers).await.status,
            tonic::Code::Unauthenticated as i32
        );
    }
}

#[tokio::test]
async fn fast_path_hits_are_counted_in_rpc_metrics() {
    let database = TestDatabase::embedded();
    let service = service_with_fixed_clock(&database).await;
    let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &["a"]).await;
    service.validate(&key).await.unwrap();
    let connection = Connection::open(service.running.address()).await;
    for _ in 0..3 {
        connection.send(VALIDATE_PATH, &validate_request(&key, &[]).encode_to_vec(), &[]).await;
    }
    connection.send(VALIDATE_PATH, &validate_request(&key, &["z"]).encode_to_vec(), &[]).await;
    let requests = vec![validate_request(&key, &[]); 5];
    connection.send(BATCH_PATH, &v1::BatchValidateKeysRequest { requests }.encode_to_vec(), &[]).await;
    let metrics = http_request(service.running.ops_address().unwrap(), "GET /metrics").await.unwrap().body;
    let is = |sample: &str| assert!(metrics.lines().any(|line| line == sample), "{sample}:\n{metrics}");
    let rpc = |name: &str| {
        let service = "tenantauth.v1.ValidationService";
        format!("grpc_type=\"unary\",grpc_service=\"{service}\",grpc_method=\"{name}\"")
    };
    is(&format!("grpc_server_handled_total{{{},grpc_code=\"OK\"}} 5", rpc("ValidateKey")));
    is(&format!("grpc_server_handled_total{{{},grpc_code=\"OK\"}} 1", rpc("BatchValidateKeys")));
    is(&format!("grpc_server_handling_seconds_count{{{}}} 5", rpc("ValidateKey")));
    for messages in ["started", "msg_received", "msg_sent"] {
        is(&format!("grpc_server_{messages}_total{{{}}} 5", rpc("ValidateKey")));
    }
    is("tenant_auth_verdicts_total{verdict=\"valid\"} 9");
    is("tenant_auth_verdicts_total{verdict=\"insufficient_scope\"} 1");
    is("tenant_auth_answers_total{source=\"fresh\"} 9");
}

#[tokio::test]
async fn consume_is_answered_from_the_lease_like_by_the_full_stack() {
    let database = TestDatabase::test_server().await;
    let service = service_with_fixed_clock(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, _) = service.issue_key(&tenant, &[]).await;
    store_limit(&service, limit_of(&tenant, "requests.daily", per_day(3))).await;
    consume(&service, &key, 1).await.unwrap();
    let connection = Connection::open(service.running.address()).await;
    // A denied request takes nothing, so that both responses are the same.
    for message in [consumption(&key, &[("requests", 4)]), consumption("ta_x", &[("requests", 1)])] {
        let message = message.encode_to_vec();
        let short = connection.send(CONSUME_PATH, &message, &[]).await;
        let full_stack = connection.send_in_pieces(CONSUME_PATH, &message).await;
        let decode = |bytes: &[u8]| v1::ConsumeResponse::decode(&bytes[5..]).unwrap();
        assert_eq!((short.status, decode(&short.message)), (0, decode(&full_stack.message)));
        assert_eq!((short.request_id.is_some(), full_stack.request_id.is_some()), (false, true));
    }
}
