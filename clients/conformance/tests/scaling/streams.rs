//! Event streams of MCP servers, one server for each replica and language: when they end after the revocation of their key.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, process::Stdio, time::Instant};

use anyhow::{Context as _, ensure};
use futures::future::{join_all, try_join_all};
use serde_json::{Value, json};
use tenant_auth_conformance::{
    WAIT_TIMEOUT,
    administration::AdminClient,
    language::{LANGUAGES, Language, is_every_tool_required},
    port,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    task::spawn_blocking,
    time::timeout,
};

use crate::cluster::{Cluster, EXCLUSIVE, TENANT, print};

const RUNNER_BUILD_FOLDER: &str = env!("CARGO_TARGET_TMPDIR");
const STATELESS_REVISION: &str = "2026-07-28";
const HANDSHAKE_REVISION: &str = "2025-11-25";
/// The end of a response of unknown length (RFC 9112, section 7.1).
const LAST_CHUNK: &str = "\r\n0\r\n\r\n";

/// An MCP server of one language that asks one replica.
struct McpServer {
    language: &'static str,
    address: SocketAddr,
    _child: Child,
}

impl McpServer {
    async fn start(language: &'static Language, replica: SocketAddr) -> anyhow::Result<Self> {
        let address = port::reserve_address()?;
        let command = language.mcp_server_command(Path::new(RUNNER_BUILD_FOLDER), replica, address);
        let mut command = Command::from(command.context("no MCP server")?);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
        let server = Self { language: language.name, address, _child: command.spawn()? };
        let listening = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        timeout(WAIT_TIMEOUT, listening)
            .await
            .with_context(|| format!("{}: not listening", language.name))?;
        Ok(server)
    }

    /// Sends a request of a key on a connection of its own, and reads the response up to its body.
    async fn send(
        &self,
        method: &str,
        key: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> anyhow::Result<Response> {
        let mut stream = TcpStream::connect(self.address).await?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!(
            "{method} /mcp HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\
             accept: application/json, text/event-stream\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n{headers}\r\n{body}",
            self.address,
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut body = BufReader::new(stream);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            ensure!(body.read_line(&mut line).await? > 0, "{}: no response", self.language);
            if line.trim().is_empty() {
                return Ok(Response { head, body });
            }
            head.push(line.trim().to_owned());
        }
    }

    /// Opens a session, and its standing event stream.
    async fn open_handshake_stream(&self, key: &str) -> anyhow::Result<Response> {
        let client = json!({ "name": "streams", "version": "1" });
        let params =
            json!({ "protocolVersion": HANDSHAKE_REVISION, "capabilities": {}, "clientInfo": client });
        let initialize = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params });
        let opened = self.send("POST", key, &[], Some(&initialize)).await?;
        let session = opened.header("mcp-session-id").context("no session")?.to_owned();
        let headers = [("mcp-session-id", &*session), ("mcp-protocol-version", HANDSHAKE_REVISION)];
        let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        self.send("POST", key, &headers, Some(&initialized)).await?;
        self.send("GET", key, &headers, None).await
    }

    /// Subscribes to changes.
    async fn open_stateless_stream(&self, key: &str) -> anyhow::Result<Response> {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": STATELESS_REVISION,
            "io.modelcontextprotocol/clientInfo": { "name": "streams", "version": "1" },
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let params = json!({ "notifications": { "toolsListChanged": true }, "_meta": meta });
        let listen = json!({ "jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params });
        let headers = [("mcp-protocol-version", STATELESS_REVISION), ("mcp-method", "subscriptions/listen")];
        self.send("POST", key, &headers, Some(&listen)).await
    }
}

/// A response whose body is still open.
struct Response {
    head: Vec<String>,
    body: BufReader<TcpStream>,
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        let found =
            |line: &&String| line.split_once(':').is_some_and(|(is, _)| is.eq_ignore_ascii_case(name));
        Some(self.head.iter().find(found)?.split_once(':')?.1.trim())
    }

    fn is_open_event_stream(&self) -> bool {
        self.head[0].starts_with("HTTP/1.1 200")
            && self.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"))
    }

    /// Reads to the end of the response. Its connection may stay open for a while.
    async fn rest(&mut self) -> anyhow::Result<String> {
        // The end of the head: a response may consist of the last chunk alone.
        let mut rest = "\r\n".to_owned();
        let reading = async {
            while !rest.ends_with(LAST_CHUNK) && self.body.read_line(&mut rest).await? > 0 {}
            anyhow::Ok(())
        };
        timeout(WAIT_TIMEOUT, reading).await.context("the stream does not end")??;
        Ok(rest)
    }
}

/// Returns the languages with an MCP server that work on this machine, ready to start.
async fn prepared_languages() -> Vec<&'static Language> {
    let mut languages = Vec::new();
    for language in LANGUAGES.iter().filter(|language| language.has_mcp_server()) {
        if let Some(tool) = language.missing_tool() {
            print(&format!("\nSKIPPED: streams of {}: `{tool}` does not work here\n", language.name));
            assert!(!is_every_tool_required(), "CI needs {tool}");
            continue;
        }
        languages.push(language);
    }
    let prepare = |language: &'static Language| {
        spawn_blocking(move || language.prepare(Path::new(RUNNER_BUILD_FOLDER)))
    };
    for prepared in join_all(languages.iter().copied().map(prepare)).await {
        prepared.unwrap().unwrap();
    }
    languages
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_revoked_key_end_on_every_replica() {
    let _turn = EXCLUSIVE.lock().await;
    let cluster = Cluster::start().await;
    let languages = prepared_languages().await;
    let starting = languages.iter().flat_map(|language| {
        cluster.replicas.iter().map(|replica| McpServer::start(language, replica.address))
    });
    let servers = try_join_all(starting).await.unwrap();
    let mut operator = AdminClient::connect(cluster.replicas[0].address).unwrap();
    let scopes = ["orders:read".to_owned()];
    let revoked = operator.issue_key("revoked", TENANT, &scopes, None).await.unwrap();
    let other = operator.issue_key("other", TENANT, &scopes, None).await.unwrap();

    let mut streams = Vec::new();
    let mut others = Vec::new();
    for server in &servers {
        for revision in [HANDSHAKE_REVISION, STATELESS_REVISION] {
            let open = async |key: &str| match revision {
                HANDSHAKE_REVISION => server.open_handshake_stream(key).await,
                _ => server.open_stateless_stream(key).await,
            };
            let (stream, beside) =
                (open(&revoked.plaintext).await.unwrap(), open(&other.plaintext).await.unwrap());
            for opened in [&stream, &beside] {
                assert!(opened.is_open_event_stream(), "{} {revision}: {:?}", server.language, opened.head);
            }
            streams.push((server, revision, stream));
            others.push((server, revision, beside));
        }
    }
    operator.revoke_key(&revoked.key_id).await.unwrap();
    let began = Instant::now();
    let ends = streams.iter_mut().map(|(server, revision, stream)| async move {
        let rest = stream.rest().await.with_context(|| format!("{} {revision}", server.language))?;
        anyhow::Ok((server.language, *revision, rest, began.elapsed()))
    });
    let mut slowest = BTreeMap::new();
    for (language, revision, rest, time) in try_join_all(ends).await.unwrap() {
        if revision == STATELESS_REVISION {
            assert!(rest.contains("REVOKED"), "{language}: the client cannot know why: {rest}");
        }
        let worst = slowest.entry((language, revision)).or_insert(time);
        *worst = time.max(*worst);
    }
    for ((language, revision), time) in slowest {
        print(&format!("\nstreams of a revoked key, {language} {revision}: all ended after {time:?}"));
    }
    print("\n");

    // Those of the other key go on, until their key is revoked too.
    for (server, revision, stream) in &mut others {
        let nothing = timeout(std::time::Duration::ZERO, stream.rest()).await;
        assert!(nothing.is_err(), "{} {revision}: the stream of another key ended", server.language);
    }
}
