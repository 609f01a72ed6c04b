//! The caller's deadline, from the wire to the database. The clients here have no timer: only the service can
//! end their requests.

use http::uri::PathAndQuery;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tenant_auth_proto::v1::{
    self, Verdict, admin_service_client::AdminServiceClient,
    batch_validate_keys_result::Result as BatchOutcome, stream_validate_keys_response::Result as Outcome,
    validation_service_client::ValidationServiceClient,
};
use tenant_auth_svc::domain::clock::SystemClock;
use tenant_auth_testkit::Fault;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, body::Body, client::Grpc};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

use crate::harness::{TestDatabase, TestService, settings_with_long_timeouts, stream_request, unknown_key};

/// Used instead of tonic's channel, which would read the header that these tests set by hand and start its
/// own timer.
type UntimedClient = Client<HttpConnector, Body>;

fn untimed_client() -> UntimedClient {
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

fn validation(service: &TestService) -> ValidationServiceClient<UntimedClient> {
    let origin = format!("http://{}", service.running.address());
    ValidationServiceClient::with_origin(untimed_client(), origin.parse().unwrap())
}

fn admin(service: &TestService) -> AdminServiceClient<UntimedClient> {
    let origin = format!("http://{}", service.running.address());
    AdminServiceClient::with_origin(untimed_client(), origin.parse().unwrap())
}

fn request_with_timeout<T>(timeout: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
    request
}

fn validate_request(key: &str) -> v1::ValidateKeyRequest {
    v1::ValidateKeyRequest { key: key.to_owned(), required_scopes: Vec::new(), ..Default::default() }
}

/// A service with a database that hangs, and a key that is not cached.
async fn service_with_hanging_database() -> (TestDatabase, TestService, String) {
    let database = TestDatabase::test_server().await;
    let service =
        TestService::start_with(settings_with_long_timeouts(&database), SystemClock::shared()).await;
    let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    database.server().faults().set(Fault::Hang);
    (database, service, key)
}

fn assert_timed_out(status: &Status) {
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "DATABASE_TIMED_OUT");
    assert!(details.retry_info().unwrap().retry_delay.is_some());
}

fn assert_expired(status: &Status) {
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "DEADLINE_EXPIRED");
}

fn item_status(error: tonic_types::Status) -> Status {
    use prost::Message as _;
    let details = error.encode_to_vec().into();
    Status::with_details(Code::from_i32(error.code), error.message, details)
}

#[tokio::test]
async fn validation_ends_at_deadline_and_shared_load_continues() {
    let (database, service, key) = service_with_hanging_database().await;
    let before = database.caller_requests();
    let other = tokio::spawn({
        let (mut client, request) = (validation(&service), validate_request(&key));
        async move { client.validate_key(request).await }
    });
    database.server().wait_for(|counters| counters.open_requests == 1).await;
    let timed_out = validation(&service)
        .validate_key(request_with_timeout("100m", validate_request(&key)))
        .await
        .unwrap_err();
    assert_timed_out(&timed_out);
    assert_eq!(database.server().counters().open_requests, 1, "the load continues");
    database.server().faults().clear();
    let answer = other.await.unwrap().unwrap().into_inner();
    assert_eq!(answer.verdict(), Verdict::Valid);
    assert_eq!(answer.provenance.unwrap().source(), v1::Source::Database, "the request waited for that load");
    assert_eq!(database.caller_requests() - before, 1);
    assert_eq!(service.validate(&key).await.unwrap().provenance.unwrap().source(), v1::Source::Fresh);
}

#[tokio::test]
async fn batch_ends_at_deadline_with_error_for_each_key() {
    let (database, service, key) = service_with_hanging_database().await;
    let requests = vec![validate_request(&key), validate_request("!"), validate_request(&unknown_key())];
    let batch = request_with_timeout("100m", v1::BatchValidateKeysRequest { requests });
    let results = validation(&service).batch_validate_keys(batch).await.unwrap().into_inner().results;
    assert!(database.server().counters().open_requests >= 1, "only the caller stopped waiting");
    let outcomes: Vec<_> = results.into_iter().map(|result| result.result.unwrap()).collect();
    let [BatchOutcome::Error(first), BatchOutcome::Response(looks), BatchOutcome::Error(last)] = &*outcomes
    else {
        panic!("{outcomes:?}")
    };
    assert_eq!(looks.verdict(), Verdict::Malformed);
    assert_timed_out(&item_status(first.clone()));
    assert_timed_out(&item_status(last.clone()));
}

#[tokio::test]
async fn stream_deadline_applies_to_each_message() {
    let (database, service, key) = service_with_hanging_database().await;
    let (sender, asked) = mpsc::channel(8);
    let opened = request_with_timeout("200m", ReceiverStream::new(asked));
    let mut answers = validation(&service).stream_validate_keys(opened).await.unwrap().into_inner();
    let mut ask = async |id, key: &str| {
        sender.send(stream_request(id, key)).await.unwrap();
        match answers.message().await.unwrap().unwrap().result.unwrap() {
            Outcome::Error(error) => item_status(error),
            Outcome::Response(response) => panic!("{response:?}"),
        }
    };
    assert_timed_out(&ask(1, &key).await);
    assert_eq!(database.server().counters().open_requests, 1, "only the caller stopped waiting");

    // The deadline has passed by now, so a new request is not started.
    let requests = database.caller_requests();
    assert_expired(&ask(2, &unknown_key()).await);
    assert_eq!(database.caller_requests(), requests);
}

/// A statement that is abandoned half-way can block the database's write lock.
#[tokio::test]
async fn sent_change_outlives_caller_and_unsent_change_is_dropped() {
    let (database, service, _) = service_with_hanging_database().await;
    let before = database.caller_requests();
    let create = |name: &str| v1::CreateTenantRequest { name: name.to_owned(), ..Default::default() };
    for name in ["Sent", "Waits"] {
        let timed_out =
            admin(&service).create_tenant(request_with_timeout("100m", create(name))).await.unwrap_err();
        assert_timed_out(&timed_out);
    }
    let open = database.server().counters().open_requests;
    assert_eq!((database.caller_requests() - before, open), (1, 1), "the first write is still in flight");

    database.server().faults().clear();
    let created = admin(&service).create_tenant(request_with_timeout("30S", create("Late"))).await.unwrap();
    assert_eq!(created.into_inner().tenant.unwrap().name, "Late");
    let count = |name: &str| {
        let rows = database.server().query(&format!("SELECT id FROM tenants WHERE name = '{name}'"));
        rows.unwrap().len()
    };
    assert_eq!((count("Sent"), count("Waits"), count("Late")), (1, 0, 1));
}

#[tokio::test]
async fn expired_request_reads_and_changes_nothing() {
    let (database, service, key) = service_with_hanging_database().await;
    let before = database.caller_requests();
    for timeout in ["0S", "0m", "1n"] {
        let validate =
            validation(&service).validate_key(request_with_timeout(timeout, validate_request(&key))).await;
        assert_expired(&validate.unwrap_err());
        let create = v1::CreateTenantRequest { name: "Late".to_owned(), ..Default::default() };
        assert_expired(
            &admin(&service).create_tenant(request_with_timeout(timeout, create)).await.unwrap_err(),
        );
    }
    assert_eq!(database.caller_requests(), before);
}

#[tokio::test]
async fn malformed_deadline_header_is_ignored() {
    for garbage in ["soon", "12", "-5m", "1.5S", "123456789m", "5x"] {
        let (database, service, key) = service_with_hanging_database().await;
        let mut client = validation(&service);
        let request = request_with_timeout(garbage, validate_request(&key));
        let asked = tokio::spawn(async move { client.validate_key(request).await });
        database.server().wait_for(|counters| counters.open_requests == 1).await;
        database.server().faults().clear();
        let answer = asked.await.unwrap().unwrap().into_inner();
        assert_eq!(answer.verdict(), Verdict::Valid, "{garbage}");
    }
}

/// Only its deadline ends the call: not the caller, the message or the database.
#[tokio::test]
async fn endless_message_is_cut_off_and_releases_permit() {
    let database = TestDatabase::embedded();
    let settings = database.settings().with_flag("TENANT_AUTH_MAX_REQUESTS", Some("1".to_owned()));
    let service = TestService::start_with(settings, SystemClock::shared()).await;
    let mut client =
        Grpc::with_origin(untimed_client(), format!("http://{}", service.running.address()).parse().unwrap());
    let path = PathAndQuery::from_static("/tenantauth.v1.ValidationService/ValidateKey");
    let codec = ProstCodec::<v1::ValidateKeyRequest, v1::ValidateKeyResponse>::default();
    client.ready().await.unwrap();
    let request = request_with_timeout("300m", futures::stream::pending());
    let cut_off = client.client_streaming(request, path, codec).await.unwrap_err();
    assert_eq!(cut_off.code(), Code::DeadlineExceeded, "{cut_off:?}");
    assert_eq!(cut_off.get_error_details().error_info().unwrap().reason, "REQUEST_TIMED_OUT");
    // The one place there is.
    assert_eq!(service.validate("!").await.unwrap().verdict(), Verdict::Malformed);
}
