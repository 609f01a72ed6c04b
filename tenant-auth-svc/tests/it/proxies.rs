//! Proxies named in the environment receive no traffic; the configured proxy is used.

use std::{
    net::SocketAddr,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use tenant_auth_testkit::HranaServer;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    process::Command,
    task::JoinHandle,
};

use crate::harness::{
    TOKEN,
    collector::Collector,
    http_until,
    program::{addresses, program, signal},
};

/// A proxy that records the headers of every request, and forwards plain requests.
struct RecordingProxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl RecordingProxy {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heads);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let kept = Arc::clone(&kept);
                // A peer that disconnects ends only its own connection.
                tokio::spawn(async move { drop(Self::forward(stream, &kept).await) });
            }
        });
        Self { address, heads, task }
    }

    async fn forward(stream: TcpStream, heads: &Mutex<Vec<String>>) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).await? > 0 {}
        heads.lock().unwrap().push(head.clone());
        let Some((method, rest)) = head.split_once(" http://") else {
            // A tunnel would need a host name, and the tests have none.
            return stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await;
        };
        let (host, rest) = rest.split_once('/').unwrap();
        let mut target = TcpStream::connect(host).await?;
        target.write_all(format!("{method} /{rest}").as_bytes()).await?;
        tokio::io::copy_bidirectional(&mut stream, &mut target).await?;
        Ok(())
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// One head for each connection.
    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// The heads of requests: a client may open a second connection, and then use the first one.
    fn requests(&self) -> Vec<String> {
        self.heads().into_iter().filter(|head| !head.is_empty()).collect()
    }

    /// Sets the proxy in every variable that programs read a proxy from.
    fn set_in_environment(&self, command: &mut Command) {
        for name in ["http_proxy", "https_proxy", "all_proxy", "grpc_proxy", "ftp_proxy"] {
            command.env(name, self.url()).env(name.to_uppercase(), self.url());
        }
    }
}

impl Drop for RecordingProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A database with a token, and the program configured for it.
struct ProxySetup {
    database: HranaServer,
    folder: tempfile::TempDir,
}

impl ProxySetup {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), TOKEN).unwrap();
        Self { database: HranaServer::builder().token(TOKEN).start().await.unwrap(), folder }
    }

    fn configured_command(&self, command: &str) -> Command {
        let mut program = program();
        program
            .arg(command)
            .env("TENANT_AUTH_DATABASE_URL", self.database.url())
            .env("TENANT_AUTH_DATABASE_TOKEN_FILE", self.folder.path().join("token"));
        program
    }
}

async fn run(command: &mut Command) -> (Option<i32>, String) {
    let output =
        tokio::time::timeout(Duration::from_secs(60), command.output()).await.expect("the program must exit");
    let output = output.unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn service_ignores_proxy_variables_of_environment() {
    let (proxy, setup, collector) =
        (RecordingProxy::start().await, ProxySetup::start().await, Collector::start().await);
    let mut migrate = setup.configured_command("migrate");
    proxy.set_in_environment(&mut migrate);
    assert_eq!(run(&mut migrate).await.0, Some(0));
    let mut serve = setup.configured_command("serve");
    proxy.set_in_environment(&mut serve);
    let mut serve = serve
        .args(["--listen", "127.0.0.1:0", "--log-format", "json"])
        .env("TENANT_AUTH_OPS_LISTEN", "127.0.0.1:0")
        .env("TENANT_AUTH_DRAIN_DELAY", "0s")
        .env("TENANT_AUTH_OTLP_ENDPOINT", &collector.endpoint)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(serve.stderr.take().unwrap()).lines();
    let (address, ops) = addresses(&mut log).await;
    http_until(ops, "GET /readyz", |answer| answer.status == 200).await;
    for arguments in [&["--endpoint", &*format!("http://{address}")][..], &[]] {
        let mut health = program();
        health.arg("healthcheck").args(arguments).env("TENANT_AUTH_OPS_LISTEN", ops.to_string());
        proxy.set_in_environment(&mut health);
        let (code, output_text) = run(&mut health).await;
        assert_eq!(code, Some(0), "{arguments:?}: {output_text}");
    }
    signal(&serve, "TERM");
    assert!(serve.wait().await.unwrap().success());
    // The last metrics are exported at shutdown.
    collector.wait_until(|got| got.requests > 0).await;
    assert_eq!(proxy.heads(), [""; 0]);
}

#[tokio::test]
async fn configured_proxy_is_used_for_database() {
    let (proxy, setup) = (RecordingProxy::start().await, ProxySetup::start().await);
    let mut migrate = setup.configured_command("migrate");
    migrate.env("TENANT_AUTH_DATABASE_PROXY", proxy.url());
    let (code, output_text) = run(&mut migrate).await;
    assert_eq!(code, Some(0), "{output_text}");
    let heads = proxy.requests();
    assert!(
        !heads.is_empty() && heads.iter().all(|head| head.starts_with("POST http://127.0.0.1:")),
        "{heads:?}"
    );

    // With TLS the proxy receives a CONNECT request, and sees only the target.
    let proxy = RecordingProxy::start().await;
    let mut check = setup.configured_command("check-config");
    check
        .arg("--connect")
        .env("TENANT_AUTH_DATABASE_URL", "libsql://db.example")
        .env("TENANT_AUTH_DATABASE_PROXY", proxy.url());
    assert_eq!(run(&mut check).await.0, Some(1));
    let heads = proxy.requests();
    assert!(
        !heads.is_empty() && heads.iter().all(|head| head.starts_with("CONNECT db.example:443")),
        "{heads:?}"
    );
    assert!(!format!("{heads:?}").contains(TOKEN), "{heads:?}");
}

#[tokio::test]
async fn token_is_never_sent_to_remote_proxy_without_tls() {
    let setup = ProxySetup::start().await;
    let mut check = setup.configured_command("check-config");
    check.env("TENANT_AUTH_DATABASE_PROXY", "http://10.0.0.1:3128");
    let (code, reported) = run(&mut check).await;
    assert_eq!(code, Some(2), "{reported}");
    assert!(
        reported.contains("TENANT_AUTH_DATABASE_PROXY: this proxy would see the database token"),
        "{reported}"
    );
    check.env("TENANT_AUTH_DATABASE_URL", "https://db.example");
    assert_eq!(run(&mut check).await, (Some(0), String::new()));
}
