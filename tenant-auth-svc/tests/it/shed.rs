//! Overload: which calls are rejected, which are served, and that every permit is released.

use std::{collections::BTreeSet, time::Duration};

use futures::{
    StreamExt as _,
    stream::{self, FuturesUnordered},
};
use http::uri::PathAndQuery;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tenant_auth_proto::v1::{
    self, Verdict, info_service_client::InfoServiceClient, session_service_client::SessionServiceClient,
    stream_validate_keys_response::Result as Outcome, validation_service_client::ValidationServiceClient,
};
use tenant_auth_svc::{domain::clock::SystemClock, middleware::shed::SERVICE_PERMIT_CLASSES};
use tenant_auth_testkit::Fault;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming, client::Grpc, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use tonic_types::StatusExt as _;

use crate::harness::{
    TestDatabase, TestService, captured::TestLog, outcome, settings_with_long_timeouts, stream_request,
    unknown_key,
};

type Answer = Result<v1::ValidateKeyResponse, Status>;

/// Starts a service with this many permits and a slow database.
async fn service_with_permits(database: &TestDatabase, permits: usize) -> TestService {
    let settings = settings_with_long_timeouts(database)
        .with_flag("TENANT_AUTH_MAX_REQUESTS", Some(permits.to_string()))
        // The test has a single caller.
        .with_flag("TENANT_AUTH_CALLER_SHARE", Some("100".to_owned()));
    TestService::start_with(settings, SystemClock::shared()).await
}

/// Starts a validation whose request body ends when `end_signal` is set. Until then only its caller can end it.
fn start_validation(service: &TestService, end_signal: &watch::Sender<bool>) -> JoinHandle<Answer> {
    let (mut client, mut end_signal) = (Grpc::new(service.channel.clone()), end_signal.subscribe());
    let request =
        v1::ValidateKeyRequest { key: unknown_key(), required_scopes: Vec::new(), ..Default::default() };
    let body = stream::once(async move {
        end_signal.wait_for(|end_signal| *end_signal).await.unwrap();
        request
    });
    tokio::spawn(async move {
        client.ready().await.unwrap();
        let path = PathAndQuery::from_static("/tenantauth.v1.ValidationService/ValidateKey");
        client
            .client_streaming(Request::new(body), path, ProstCodec::default())
            .await
            .map(Response::into_inner)
    })
}

/// Starts one validation more than there are permits. The first to be answered is the rejected one.
async fn fill_permits(
    service: &TestService,
    permits: usize,
    end_signal: &watch::Sender<bool>,
) -> FuturesUnordered<JoinHandle<Answer>> {
    let mut begun: FuturesUnordered<_> =
        (0..=permits).map(|_| start_validation(service, end_signal)).collect();
    assert_overloaded(&begun.next().await.unwrap().unwrap().unwrap_err());
    begun
}

/// Sends requests until one gets a permit: the server may notice a released permit only then.
async fn validate_until_served(service: &TestService, key: &str) -> Answer {
    let served = async {
        loop {
            let answer = service.validate(key).await;
            if outcome(&answer) != "ResourceExhausted" {
                return answer;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), served).await.unwrap()
}

fn assert_overloaded(status: &Status) {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!((&*info.reason, &*info.domain), ("OVERLOADED", "tenantauth.v1"));
    assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_millis(200)));
}

/// Returns the services that reflection lists.
async fn reflected_services(service: &TestService) -> BTreeSet<String> {
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(service.channel.clone());
    let answers = client.server_reflection_info(tokio_stream::iter([list])).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}")
    };
    list.service.into_iter().map(|service| service.name).collect()
}

#[tokio::test]
async fn request_limit_refuses_validations_but_not_operators() {
    let database = TestDatabase::test_server().await;
    let service = service_with_permits(&database, 2).await;
    let log = TestLog::shared();
    let end_signal = watch::Sender::new(false);
    let begun = fill_permits(&service, 2, &end_signal).await;

    let mut request = Request::new(v1::ValidateKeyRequest { key: unknown_key(), ..Default::default() });
    request.metadata_mut().insert("x-request-id", "one-too-many".parse().unwrap());
    assert_overloaded(&service.validation().validate_key(request).await.unwrap_err());
    let lines = log
        .lines(1, |line| line.contains("one-too-many") && line.contains(r#""target":"tenant_auth::rpc""#))
        .await;
    assert!(
        lines.len() == 1 && lines[0].contains(r#""rpc.response.status_code":"RESOURCE_EXHAUSTED""#),
        "{lines:?}"
    );
    let mut sessions = SessionServiceClient::new(service.channel.clone());
    assert_overloaded(&sessions.bind_session(v1::BindSessionRequest::default()).await.unwrap_err());

    let name = HealthCheckRequest { service: "tenantauth.v1.ValidationService".to_owned() };
    HealthClient::new(service.channel.clone()).check(name).await.unwrap();
    assert!(reflected_services(&service).await.contains("tenantauth.v1.ValidationService"));
    let mut info = InfoServiceClient::new(service.channel.clone());
    info.get_server_info(v1::GetServerInfoRequest::default()).await.unwrap();
    service.create_tenant("Acme").await;

    end_signal.send_replace(true);
    for answer in begun {
        assert_eq!(answer.await.unwrap().unwrap().verdict(), Verdict::Unknown);
    }
    assert_eq!(validate_until_served(&service, &unknown_key()).await.unwrap().verdict(), Verdict::Unknown);
}

#[tokio::test]
async fn cancelled_request_releases_its_permit() {
    let database = TestDatabase::test_server().await;
    let service = service_with_permits(&database, 2).await;
    database.server().faults().set(Fault::Hang);
    let mut waiting = Vec::new();
    for count in 1..=2 {
        let mut client = service.validation();
        let request = v1::ValidateKeyRequest { key: unknown_key(), ..Default::default() };
        waiting.push(tokio::spawn(async move { client.validate_key(request).await }));
        database.server().wait_for(|counters| counters.open_requests == count).await;
    }
    assert_overloaded(&service.validate(&unknown_key()).await.unwrap_err());
    for waiting in &waiting {
        waiting.abort();
    }
    let malformed = validate_until_served(&service, "!").await.unwrap();
    assert_eq!(malformed.verdict(), Verdict::Malformed);
    assert_eq!(database.server().counters().open_requests, 2, "no load is cancelled");
}

#[tokio::test]
async fn unfinished_request_releases_its_permit_on_cancel() {
    let database = TestDatabase::test_server().await;
    let service = service_with_permits(&database, 2).await;
    let end_signal = watch::Sender::new(false);
    for begun in fill_permits(&service, 2, &end_signal).await {
        begun.abort();
    }
    assert_eq!(validate_until_served(&service, "!").await.unwrap().verdict(), Verdict::Malformed);
}

#[tokio::test]
async fn two_hundred_requests_on_eight_permits_serve_eight() {
    let database = TestDatabase::test_server().await;
    let service = service_with_permits(&database, 8).await;
    for round in 0..2 {
        let end_signal = watch::Sender::new(false);
        let mut answers: FuturesUnordered<_> =
            (0..200).map(|_| start_validation(&service, &end_signal)).collect();
        for _ in 0..192 {
            assert_overloaded(&answers.next().await.unwrap().unwrap().unwrap_err());
        }
        end_signal.send_replace(true);
        assert_eq!(answers.len(), 8, "all permits are free again in round {round}");
        while let Some(answer) = answers.next().await {
            assert_eq!(answer.unwrap().unwrap().verdict(), Verdict::Unknown);
        }
    }
}

/// Opens a stream and returns both ends.
async fn open_stream(
    channel: &Channel,
) -> Result<(mpsc::Sender<v1::StreamValidateKeysRequest>, Streaming<v1::StreamValidateKeysResponse>), Status>
{
    let (sender, receiver) = mpsc::channel(8);
    let mut client = ValidationServiceClient::new(channel.clone());
    let answers = client.stream_validate_keys(ReceiverStream::new(receiver)).await?;
    Ok((sender, answers.into_inner()))
}

async fn next_outcome(answers: &mut Streaming<v1::StreamValidateKeysResponse>) -> Outcome {
    answers.message().await.unwrap().unwrap().result.unwrap()
}

#[tokio::test]
async fn stream_holds_permit_per_message_and_none_when_idle() {
    let database = TestDatabase::test_server().await;
    let service = service_with_permits(&database, 2).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(open_stream(&service.channel).await.unwrap());
    }
    database.server().faults().set(Fault::Hang);
    for (index, (sender, _)) in (1..=2).zip(&streams) {
        sender.send(stream_request(index, &unknown_key())).await.unwrap();
        database.server().wait_for(|counters| counters.open_requests == index).await;
    }

    let (sender, answers) = &mut streams[4];
    sender.send(stream_request(3, &unknown_key())).await.unwrap();
    match next_outcome(answers).await {
        Outcome::Error(error) => {
            let details = error.encode_to_vec().into();
            let code = Code::from_i32(error.code);
            assert_overloaded(&Status::with_details(code, error.message, details));
        }
        Outcome::Response(response) => panic!("{response:?}"),
    }
    assert_overloaded(&service.validate(&unknown_key()).await.unwrap_err());
    assert_overloaded(&open_stream(&service.channel).await.err().unwrap());

    database.server().faults().clear();
    for (_, answers) in &mut streams[..2] {
        assert!(matches!(next_outcome(answers).await, Outcome::Response(_)));
    }
    let (sender, answers) = &mut streams[4];
    sender.send(stream_request(4, &unknown_key())).await.unwrap();
    assert!(matches!(next_outcome(answers).await, Outcome::Response(_)), "the stream was not ended");
}

#[tokio::test]
async fn unread_stream_holds_no_permit() {
    let database = TestDatabase::test_server().await;
    let service = service_with_permits(&database, 1).await;
    let (known, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    service.validate(&known).await.unwrap();
    let address = format!("http://{}", service.running.address());
    // A window so small that one response fills it.
    let narrow = Channel::from_shared(address).unwrap().initial_stream_window_size(16).connect_lazy();
    let (sender, _unread) = open_stream(&narrow).await.unwrap();

    database.server().faults().set(Fault::Hang);
    sender.send(stream_request(1, &unknown_key())).await.unwrap();
    database.server().wait_for(|counters| counters.open_requests == 1).await;
    // Rejections fill the window and the buffers behind it. A call on the same connection arrives after the
    // query before it.
    let mut others = ValidationServiceClient::new(narrow);
    for id in 2..10 {
        sender.send(stream_request(id, &known)).await.unwrap();
        let request =
            v1::ValidateKeyRequest { key: unknown_key(), required_scopes: Vec::new(), ..Default::default() };
        assert_overloaded(&others.validate_key(request).await.unwrap_err());
    }
    database.server().faults().clear();
    assert_eq!(validate_until_served(&service, &known).await.unwrap().verdict(), Verdict::Valid);
}

#[tokio::test]
async fn every_grpc_service_is_either_limited_or_exempt() {
    let ours = FileDescriptorSet::decode(tenant_auth_proto::FILE_DESCRIPTOR_SET).unwrap();
    let ours = ours
        .file
        .iter()
        .flat_map(|file| file.service.iter().map(|service| format!("{}.{}", file.package(), service.name())));
    let listed: BTreeSet<_> = SERVICE_PERMIT_CLASSES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(listed.len(), SERVICE_PERMIT_CLASSES.len(), "each RPC once");
    let missing: Vec<_> = ours.filter(|service| !listed.contains(service)).collect();
    assert!(missing.is_empty(), "assign these RPCs a permit class in middleware/shed.rs: {missing:?}");

    // The lists contain only services that exist.
    let service = service_with_permits(&TestDatabase::embedded(), 1).await;
    let mut served = reflected_services(&service).await;
    // Reflection lists only the version of itself that is called.
    served.insert("grpc.reflection.v1alpha.ServerReflection".to_owned());
    assert_eq!(listed, served);
}
