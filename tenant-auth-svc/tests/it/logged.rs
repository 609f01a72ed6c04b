//! The log of the program: it stays small under any number of rejections and failures, every line is
//! parseable, and suppressed lines are counted.

use std::process::Stdio;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Method, Request};
use serde_json::Value;
use tenant_auth_proto::v1::{self, validation_service_client::ValidationServiceClient};
use tenant_auth_testkit::HranaServer;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
    process::Child,
    task::JoinHandle,
};
use tonic::transport::Channel;

use crate::{
    captured::StrictJson,
    cli::{addresses, program, signal},
    harness::{http_until, unknown_key},
};

/// A running program whose log is read to its end.
pub(crate) struct RunningProgram {
    serve: Child,
    address: String,
    log: JoinHandle<Vec<String>>,
}

impl RunningProgram {
    async fn start(database: &HranaServer) -> Self {
        Self::start_logging(database, "info").await
    }

    /// Starts the program with a log filter.
    pub(crate) async fn start_logging(database: &HranaServer, filter: &str) -> Self {
        let mut serve = program()
            .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"])
            .env("TENANT_AUTH_DATABASE_URL", database.url())
            .env("TENANT_AUTH_CREATE_SCHEMA", "true")
            .env("TENANT_AUTH_OPS_LISTEN", "127.0.0.1:0")
            .env("TENANT_AUTH_DRAIN_DELAY", "0s")
            .env("TENANT_AUTH_LOG", filter)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(serve.stderr.take().unwrap()).lines();
        let (address, ops) = addresses(&mut lines).await;
        let log = tokio::spawn(async move {
            let mut read = Vec::new();
            while let Some(line) = lines.next_line().await.unwrap() {
                read.push(line);
            }
            read
        });
        http_until(ops, "GET /readyz", |answer| answer.status == 200).await;
        Self { serve, address, log }
    }

    pub(crate) fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect_lazy()
    }

    /// Stops the program and returns every line. Panics at a line that a log collector would reject.
    pub(crate) async fn stop(mut self) -> Vec<String> {
        signal(&self.serve, "TERM");
        assert!(self.serve.wait().await.unwrap().success());
        let lines = self.log.await.unwrap();
        for line in &lines {
            let read = serde_json::from_str::<StrictJson>(line).map(|StrictJson| ());
            assert!(read.is_ok(), "{read:?}: {line}");
        }
        lines
    }
}

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
                let request = v1::ValidateKeyRequest { key: unknown_key(), required_scopes: Vec::new() };
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
