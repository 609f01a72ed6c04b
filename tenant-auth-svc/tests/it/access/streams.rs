//! Effects of a changed callers file on open streams.

use std::time::Duration;

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tenant_auth_proto::v1::{
    self, stream_validate_keys_response::Result as Outcome,
    validation_service_client::ValidationServiceClient, watch_service_client::WatchServiceClient,
};
use tenant_auth_svc::{
    domain::{access::Role, clock::SystemClock},
    middleware::recheck::STREAMING_RPCS,
};
use tenant_auth_testkit::Fault;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::harness::{
    TestDatabase, TestService, callers::CallersFile, error_reason, settings_with_long_timeouts,
    stream_request, unknown_key, wire::with_token,
};

/// Maximum time to wait for an expected event.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

async fn next_message<T>(stream: &mut Streaming<T>) -> Result<Option<T>, Status> {
    tokio::time::timeout(WAIT_TIMEOUT, stream.message()).await.expect("a message must arrive in time")
}

/// Asserts that the next item of a stream is its end, with the expected code.
#[track_caller]
fn assert_ended<T: std::fmt::Debug>(next: Result<Option<T>, Status>, code: Code, because: &str) {
    let status = next.expect_err("no further response is sent");
    assert_eq!((status.code(), &*error_reason(&status)), (code, because), "{status:?}");
}

/// An open `StreamValidateKeys` call.
struct ValidationStream {
    requests: mpsc::Sender<v1::StreamValidateKeysRequest>,
    answers: Streaming<v1::StreamValidateKeysResponse>,
}

impl ValidationStream {
    async fn open(service: &TestService, token: &str) -> Self {
        let (sender, asked) = mpsc::channel(8);
        let request = with_token(token, ReceiverStream::new(asked));
        let mut client = ValidationServiceClient::new(service.channel.clone());
        let answers = client.stream_validate_keys(request).await.unwrap().into_inner();
        Self { requests: sender, answers }
    }

    /// Sends a malformed key, which the service answers without the database.
    async fn send(&mut self) -> Result<Option<v1::StreamValidateKeysResponse>, Status> {
        // Sending fails if the stream has ended; the response shows that.
        let _ = self.requests.send(stream_request(1, "!")).await;
        next_message(&mut self.answers).await
    }

    async fn assert_answers(&mut self) {
        let answer = self.send().await.unwrap().unwrap();
        assert!(matches!(answer.result, Some(Outcome::Response(_))), "{answer:?}");
    }
}

async fn watch(service: &TestService, token: &str) -> Streaming<v1::WatchResponse> {
    let request = with_token(token, v1::WatchRequest::default());
    let mut client = WatchServiceClient::new(service.channel.clone());
    let mut watching = client.watch(request).await.unwrap().into_inner();
    next_message(&mut watching).await.unwrap().unwrap();
    watching
}

/// Skips messages that were sent before the callers changed, and returns the status that ends the stream. No
/// message follows the change.
async fn until_end(watching: &mut Streaming<v1::WatchResponse>) -> Status {
    loop {
        match next_message(watching).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream must end with a status"),
            Err(status) => return status,
        }
    }
}

#[tokio::test]
async fn removed_caller_loses_its_streams_and_others_continue() {
    let file = CallersFile::new(&[("api", Role::Validator, &["a"]), ("mcp", Role::Validator, &["m"])]);
    let database = TestDatabase::embedded();
    let settings = file.settings(&database).with_flag("TENANT_AUTH_FEED_INTERVAL", Some("10ms".to_owned()));
    let service = TestService::start_with(settings, SystemClock::shared()).await;
    let (mut idle, mut busy) =
        (ValidationStream::open(&service, "a").await, ValidationStream::open(&service, "a").await);
    busy.assert_answers().await;
    let mut watching = watch(&service, "a").await;
    let (mut other, mut other_watching) =
        (ValidationStream::open(&service, "m").await, watch(&service, "m").await);
    let health = with_token("a", HealthCheckRequest::default());
    let mut health = HealthClient::new(service.channel.clone()).watch(health).await.unwrap().into_inner();
    next_message(&mut health).await.unwrap().unwrap();

    file.write(&[("mcp", Role::Validator, &["m"])]);
    service.running.reloader()();
    assert_ended(next_message(&mut idle.answers).await, Code::Unauthenticated, "UNKNOWN_CALLER");
    assert_ended(busy.send().await, Code::Unauthenticated, "UNKNOWN_CALLER");
    let ended = until_end(&mut watching).await;
    assert_eq!((ended.code(), &*error_reason(&ended)), (Code::Unauthenticated, "UNKNOWN_CALLER"));
    other.assert_answers().await;
    next_message(&mut other_watching).await.unwrap().unwrap();
    // The health watch is open to anyone, so a removed caller keeps it. It ends when the service stops, which
    // waits for the other streams.
    drop((other, other_watching));
    service.running.stop().await;
    while next_message(&mut health).await.unwrap().is_some() {}
}

#[tokio::test]
async fn stream_ends_when_role_or_token_is_removed() {
    let file = CallersFile::new(&[("api", Role::Validator, &["old", "new"])]);
    let service = file.service(&TestDatabase::embedded()).await;
    let (mut old, mut new) =
        (ValidationStream::open(&service, "old").await, ValidationStream::open(&service, "new").await);

    file.write(&[("api", Role::Validator, &["new"])]);
    service.running.reloader()();
    assert_ended(old.send().await, Code::Unauthenticated, "UNKNOWN_CALLER");
    new.assert_answers().await;

    file.write(&[("api", Role::Meter, &["new"])]);
    service.running.reloader()();
    assert_ended(next_message(&mut new.answers).await, Code::PermissionDenied, "ROLE_MISSING");
}

#[tokio::test]
async fn pending_stream_request_of_removed_caller_is_not_answered() {
    let file = CallersFile::new(&[("api", Role::Validator, &["a"]), ("mcp", Role::Validator, &["m"])]);
    let database = TestDatabase::test_server().await;
    let path = Some(file.path().display().to_string());
    let settings = settings_with_long_timeouts(&database).with_flag("TENANT_AUTH_CALLERS_FILE", path);
    let service = TestService::start_with(settings, SystemClock::shared()).await;
    let mut stream = ValidationStream::open(&service, "a").await;
    database.server().faults().set(Fault::Hang);
    stream.requests.send(stream_request(1, &unknown_key())).await.unwrap();
    database.server().wait_for(|counters| counters.open_requests == 1).await;

    file.write(&[("mcp", Role::Validator, &["m"])]);
    service.running.reloader()();
    assert_ended(next_message(&mut stream.answers).await, Code::Unauthenticated, "UNKNOWN_CALLER");
}

#[tokio::test]
async fn invalid_callers_file_ends_no_stream() {
    let file = CallersFile::new(&[("api", Role::Validator, &["a"])]);
    let service = file.service(&TestDatabase::embedded()).await;
    let mut stream = ValidationStream::open(&service, "a").await;
    std::fs::write(file.path(), "[[caller]]").unwrap();
    service.running.reloader()();
    stream.assert_answers().await;
}

#[test]
fn every_streaming_rpc_is_reauthorized_after_reload() {
    let sets = [
        tenant_auth_proto::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let mut streams = Vec::new();
    for file in sets.iter().flat_map(|set| FileDescriptorSet::decode(*set).unwrap().file) {
        for service in &file.service {
            let of_streams = service.method.iter().filter(|method| method.server_streaming());
            streams.extend(
                of_streams.map(|method| format!("/{}.{}/{}", file.package(), service.name(), method.name())),
            );
        }
    }
    streams.sort_unstable();
    let mut listed = STREAMING_RPCS.to_vec();
    listed.sort_unstable();
    assert_eq!(streams, listed, "STREAMS in middleware/recheck.rs must match the served streams");
}
