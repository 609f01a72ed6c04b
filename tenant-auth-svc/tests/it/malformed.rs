//! A request that is not gRPC or cannot be decoded is reported as the caller's error, never as a service
//! error.

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use tenant_auth_proto::v1;
use tokio::net::TcpStream;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{
    TestDatabase, TestService,
    captured::TestLog,
    http_until,
    scrape::{Scrape, handled_series},
    wire::rpc_paths,
};

const VALIDATE: &str = "/tenantauth.v1.ValidationService/ValidateKey";
const STREAM: &str = "/tenantauth.v1.ValidationService/StreamValidateKeys";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// A call, byte by byte.
struct RawCall<'a> {
    method: Method,
    path: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: &'a [u8],
}

impl<'a> RawCall<'a> {
    fn grpc_call(path: &'a str, body: &'a [u8]) -> Self {
        Self { method: Method::POST, path, headers: &[("content-type", "application/grpc")], body }
    }
}

/// The response to a raw call.
#[derive(Debug)]
struct RawAnswer {
    http: u16,
    head: HeaderMap,
    /// The response body before the status.
    body: Bytes,
    status: Status,
}

async fn send_raw(service: &TestService, raw: &RawCall<'_>) -> RawAnswer {
    let stream = TcpStream::connect(service.running.address()).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut request = Request::builder()
        .method(raw.method.clone())
        .uri(format!("http://test{}", raw.path))
        .header("te", "trailers");
    for (name, value) in raw.headers {
        request = request.header(*name, *value);
    }
    let (answer, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
    // The server may reject the request before it reads the body.
    let _ = body.send_data(Bytes::copy_from_slice(raw.body), true);
    let (head, mut body) = answer.await.unwrap().into_parts();
    let mut read = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        let _ = body.flow_control().release_capacity(data.len());
        read.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.unwrap().unwrap_or_default();
    let status = Status::from_header_map(&head.headers).or_else(|| Status::from_header_map(&trailers));
    connection.abort();
    RawAnswer {
        http: head.status.as_u16(),
        head: head.headers,
        body: read.into(),
        status: status.expect("every response has a status"),
    }
}

/// Sends the call, and asserts that it is rejected with this code and with a message that contains these
/// words.
async fn assert_refused(service: &TestService, raw: RawCall<'_>, code: Code, words: &str) -> RawAnswer {
    let answered = send_raw(service, &raw).await;
    assert_eq!(answered.status.code(), code, "{}: {answered:?}", raw.path);
    assert!(answered.status.message().contains(words), "{}: {answered:?}", raw.path);
    let info = answered.status.get_error_details();
    assert!(info.error_info().is_some(), "{}: {answered:?}", raw.path);
    answered
}

/// Messages whose field 1 is invalid UTF-8 where text is expected, or is truncated.
const NOT_UTF8: &[u8] = b"\0\0\0\0\x04\x0a\x02\xff\xfe";
const GARBAGE: &[u8] = b"\0\0\0\0\x04\xff\xff\xff\xff";

fn is_stream(path: &str) -> bool {
    path == STREAM || path.ends_with("/StreamConsume") || path.ends_with("/ServerReflectionInfo")
}

/// All RPCs but those whose callers cannot handle an error: `front_doors::ext_authz` has their answers.
fn rpcs_with_errors() -> Vec<String> {
    rpc_paths().into_iter().filter(|path| !path.starts_with("/envoy.")).collect()
}

#[tokio::test]
async fn undecodable_message_is_invalid_argument_on_every_rpc() {
    let service = TestService::start(&TestDatabase::embedded()).await;
    let all = rpcs_with_errors();
    assert!(all.len() > 25);
    for path in &all {
        let refused = |body, words| {
            assert_refused(&service, RawCall::grpc_call(path, body), Code::InvalidArgument, words)
        };
        refused(GARBAGE, "cannot be decoded").await;
        refused(b"\0\0\0\0\x05\x0a\x02", "ended after 2 of 5 bytes").await;
        refused(b"\0\0\0", "message header: the request ended after 3 of 5 bytes").await;
        refused(b"\x01\0\0\0\x02\x0a\0", "no grpc-encoding").await;
        refused(b"\x07\0\0\0\0", "compression flag 7").await;
        refused(br#"{"key": "x"}"#, "compression flag 123").await;
        if !is_stream(path) {
            refused(b"", "no message").await;
            refused(b"\0\0\0\0\0\0\0\0\0\0", "more than one message").await;
        }
    }
    for path in [VALIDATE, "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", REFLECTION] {
        assert_refused(&service, RawCall::grpc_call(path, NOT_UTF8), Code::InvalidArgument, "UTF-8").await;
    }
    let batch = "/tenantauth.v1.ValidationService/BatchValidateKeys";
    let nested = b"\0\0\0\0\x05\x0a\x03\x0a\x01\xff";
    assert_refused(
        &service,
        RawCall::grpc_call(batch, nested),
        Code::InvalidArgument,
        "BatchValidateKeysRequest.requests",
    )
    .await;
    // Field 2 of a stream message is its query.
    assert_refused(
        &service,
        RawCall::grpc_call(STREAM, b"\0\0\0\0\x05\x12\x03\x0a\x01\xff"),
        Code::InvalidArgument,
        "UTF-8",
    )
    .await;
}

#[tokio::test]
async fn non_grpc_request_gets_http_error_status() {
    let service = TestService::start(&TestDatabase::embedded()).await;
    let message = b"\0\0\0\0\0";
    for path in &rpc_paths() {
        for kind in ["application/json", "application/grpc-web+proto", "text/plain"] {
            let raw = RawCall { headers: &[("content-type", kind)], ..RawCall::grpc_call(path, message) };
            let answered = assert_refused(&service, raw, Code::InvalidArgument, kind).await;
            assert_eq!(answered.http, 415, "{path}: {answered:?}");
            assert!(answered.body.starts_with(b"the content type must be application/grpc"), "{answered:?}");
        }
        let get = RawCall { method: Method::GET, headers: &[], ..RawCall::grpc_call(path, b"") };
        let answered = assert_refused(&service, get, Code::InvalidArgument, "method GET").await;
        assert_eq!((answered.http, answered.head["allow"].as_bytes()), (405, &b"POST"[..]), "{path}");
    }
    for path in &rpcs_with_errors() {
        let headers = &[("content-type", "application/grpc"), ("grpc-encoding", "br")];
        let raw = RawCall { headers, ..RawCall::grpc_call(path, b"\x01\0\0\0\x02\x0a\0") };
        let answered = assert_refused(&service, raw, Code::Unimplemented, "br").await;
        assert_eq!(
            (answered.http, answered.head["grpc-accept-encoding"].as_bytes()),
            (200, &b"identity"[..])
        );
    }
    let none = RawCall { headers: &[], ..RawCall::grpc_call(VALIDATE, message) };
    assert_eq!(assert_refused(&service, none, Code::InvalidArgument, "is missing").await.http, 415);
}

#[tokio::test]
async fn oversized_message_is_refused_by_length_prefix() {
    let service = TestService::start(&TestDatabase::embedded()).await;
    for path in &rpcs_with_errors() {
        // No body follows: the announced length is enough to reject it.
        assert_refused(
            &service,
            RawCall::grpc_call(path, b"\0\0\x10\0\x01"),
            Code::ResourceExhausted,
            "1048577 bytes",
        )
        .await;
    }
    let small = "/tenantauth.v1.SessionService/BindSession";
    assert_refused(
        &service,
        RawCall::grpc_call(small, b"\0\0\x01\0\x01"),
        Code::ResourceExhausted,
        "at most 65536",
    )
    .await;
}

/// A stream continues until the undecodable message.
#[tokio::test]
async fn stream_answers_messages_before_undecodable_one() {
    let service = TestService::start(&TestDatabase::embedded()).await;
    let mut questions = Vec::from(*b"\0\0\0\0\x07\x08\x07\x12\x03\x0a\x01!");
    let good = send_raw(&service, &RawCall::grpc_call(STREAM, &questions)).await;
    assert_eq!((good.status.code(), good.body.is_empty()), (Code::Ok, false));
    questions.extend_from_slice(GARBAGE);
    let cut = send_raw(&service, &RawCall::grpc_call(STREAM, &questions)).await;
    assert_eq!((cut.status.code(), cut.body), (Code::InvalidArgument, good.body), "{:?}", cut.status);
}

/// Covers the metrics that the error budget and the internal-error alert use.
#[tokio::test]
async fn malformed_calls_do_not_count_as_service_errors() {
    let log = TestLog::shared();
    let database = TestDatabase::embedded();
    let service = TestService::start(&database).await;
    let mark = "malformed-and-counted";
    let headers = &[("content-type", "application/grpc"), ("x-request-id", mark)];
    let json = &[("content-type", "application/json"), ("x-request-id", mark)];
    let all: Vec<_> = rpc_paths().into_iter().filter(|path| path.starts_with("/tenantauth.")).collect();
    for path in &all {
        for body in [GARBAGE, b"\0\0", b"\x05\0\0\0\0", b"\0\0\x10\0\x01", b"\x01\0\0\0\0"] {
            send_raw(&service, &RawCall { headers, ..RawCall::grpc_call(path, body) }).await;
        }
        send_raw(&service, &RawCall { headers: json, ..RawCall::grpc_call(path, b"{}") }).await;
        send_raw(&service, &RawCall { headers, method: Method::GET, ..RawCall::grpc_call(path, b"") }).await;
    }
    let scrape = Scrape::collect(&service).await;
    for path in &all {
        for code in
            ["Unavailable", "DeadlineExceeded", "ResourceExhausted", "Internal", "Unknown", "DataLoss"]
        {
            scrape.assert_value(&handled_series(&path[1..], code), 0.0);
        }
    }
    let lines = log.lines(all.len() * 7, |line| line.contains(mark)).await;
    assert_eq!(lines.len(), all.len() * 7);
    assert!(!lines.iter().any(|line| line.contains(r#""level":"ERROR""#)), "{lines:#?}");
}

/// A caller that disconnects during its request counts as cancelled, not as failed.
#[tokio::test]
async fn interrupted_request_is_recorded_as_cancelled() {
    let service = TestService::start(&TestDatabase::embedded()).await;
    let stream = TcpStream::connect(service.running.address()).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    for reason in [h2::Reason::INTERNAL_ERROR, h2::Reason::PROTOCOL_ERROR, h2::Reason::CANCEL] {
        let request =
            Request::post(format!("http://test{VALIDATE}")).header("content-type", "application/grpc");
        let (answer, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
        body.send_data(Bytes::from_static(b"\0\0\0\0\x05\x0a"), false).unwrap();
        body.send_reset(reason);
        assert!(answer.await.is_err());
    }
    let ended = |code| handled_series("tenantauth.v1.ValidationService/ValidateKey", code);
    let cancelled = format!("{} 3", ended("Canceled"));
    let metrics = service.running.ops_address().unwrap();
    http_until(metrics, "GET /metrics", |answer| answer.body.contains(&cancelled)).await;
    Scrape::collect(&service).await.assert_value(&ended("Internal"), 0.0);
    connection.abort();
    let fine = service.validation().validate_key(v1::ValidateKeyRequest::default()).await.unwrap_err();
    assert_eq!(fine.code(), Code::InvalidArgument);
}
