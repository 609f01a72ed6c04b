//! The log of the program: it stays small under any number of rejections and failures, every line is
//! parseable, and suppressed lines are counted.

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Method, Request};
use serde_json::Value;
use tenant_auth_proto::v1::{self, validation_service_client::ValidationServiceClient};
use tenant_auth_testkit::HranaServer;
use tokio::net::TcpStream;
use tonic::transport::Channel;

use crate::harness::{captured::StrictJson, program::RunningProgram, unknown_key};

/// Returns how many RPCs the log reports, including those that it only counts.
fn logged_rpc_count(lines: &[String], of: impl Fn(&Value) -> bool) -> u64 {
    let lines = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let of_rpcs = lines.filter(|line| line["target"] == "tenant_auth::rpc" && of(line));
    of_rpcs.map(|line| line["suppressed_lines"].as_u64().unwrap_or(1)).sum()
}

#[tokio::test]
async fn flood_of_refusals_is_sampled_and_counted_in_log() {
    let database = HranaServer::builder().start().await.unwrap();
    let program = RunningProgram::start(&database).await;
    let stream = TcpStream::connect(&program.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let long = format!("http://test/{}", "x".repeat(15_000));
    let known = "http://test/tenantauth.v1.ValidationService/ValidateKey".to_owned();
    // Unknown paths, requests that are not gRPC, and undecodable messages.
    let kinds = [(Method::POST, long), (Method::GET, known.clone()), (Method::POST, known)];
    let requests = kinds.iter().flat_map(|kind| std::iter::repeat_n(kind, 2_000));
    stream::iter(requests)
        .for_each_concurrent(50, |(method, uri)| {
            let client = client.clone();
            async move {
                let request = Request::builder()
                    .method(method.clone())
                    .uri(uri)
                    .header("content-type", "application/grpc")
                    .header("user-agent", "x".repeat(500));
                let mut client = client.ready().await.unwrap();
                let (answer, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
                let _ = body.send_data(Bytes::from_static(b"\0\0\0\0\x02\xff\xff"), true);
                answer.await.unwrap();
            }
        })
        .await;
    connection.abort();
    let lines = program.stop().await;
    assert_eq!(
        logged_rpc_count(&lines, |line| line["rpc.response.status_code"] == "UNIMPLEMENTED"
            && line["rpc.method"] == "_OTHER"),
        2_000
    );
    assert_eq!(
        logged_rpc_count(&lines, |line| line["rpc.response.status_code"] == "INVALID_ARGUMENT"),
        4_000
    );
    let written: usize = lines.iter().map(String::len).sum();
    assert!(lines.len() < 100 && written < 32 * 1024, "{} lines, {written} bytes", lines.len());
    let unknown = lines
        .iter()
        .find(|line| line.contains(r#""rpc.method_original":"/xxx"#))
        .expect("the beginning of the path");
    assert!(unknown.len() < 600 && unknown.contains("xxx…"), "{unknown}");
}

#[tokio::test]
async fn outage_failures_are_sampled_and_counted_in_log() {
    let mut database = HranaServer::builder().start().await.unwrap();
    let program = RunningProgram::start(&database).await;
    let channel = Channel::from_shared(format!("http://{}", program.address)).unwrap().connect_lazy();
    database.stop().await;
    stream::iter(0..5_000)
        .for_each_concurrent(50, |_| {
            let mut client = ValidationServiceClient::new(channel.clone());
            async move {
                let request = v1::ValidateKeyRequest {
                    key: unknown_key(),
                    required_scopes: Vec::new(),
                    ..Default::default()
                };
                client.validate_key(request).await.unwrap_err();
            }
        })
        .await;
    let lines = program.stop().await;
    let failed = |line: &Value| line["rpc.method"] == "tenantauth.v1.ValidationService/ValidateKey";
    assert_eq!(logged_rpc_count(&lines, failed), 5_000);
    assert!(lines.len() < 300, "{} lines", lines.len());
    let open = lines.iter().filter(|line| line.contains(r#""circuit":"lookups""#)).count();
    assert!(open >= 1, "the change of state has its own line:\n{}", lines.join("\n"));
}

#[test]
fn strict_json_rejects_duplicate_names() {
    let read = |text| {
        serde_json::from_str::<StrictJson>(text).map(|StrictJson| ()).map_err(|error| error.to_string())
    };
    assert_eq!(read(r#"{"a":[1,-1,0.5,"x",null,true,{"a":{}}],"b":1}"#), Ok(()));
    assert!(read(r#"{"a":{"b":1,"c":2,"b":1}}"#).unwrap_err().contains("duplicate field b"));
    assert!(read("{} {}").is_err());
}
