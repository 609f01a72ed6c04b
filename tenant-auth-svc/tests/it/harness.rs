//! Shared by the tests: databases to run against, and a service on one of them.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tempfile::TempDir;
use tenant_auth_proto::v1::{
    self, admin_service_client::AdminServiceClient, validation_service_client::ValidationServiceClient,
};
use tenant_auth_svc::{
    config::{ServiceConfig, Settings},
    database::client::DatabaseClient,
    domain::{
        audit::Actor,
        clock::{Clock as _, ManualClock, SharedClock, SystemClock, UnixMillis},
        store::{Call, Change, Lane},
    },
    server::{self, RunningService},
};
use tenant_auth_testkit::HranaServer;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Status, transport::Channel};

/// A time in 2026.
pub(crate) const NOW: UnixMillis = UnixMillis(1_790_000_000_000);
/// The token of every test server.
pub(crate) const TOKEN: &str = "test-token";

/// A part of the statement that looks keys up.
pub(crate) const LOOKUP: &str = "AS digests";
/// A part of the statement that writes last-used times.
pub(crate) const WRITE_LAST_USED: &str = "UPDATE api_keys SET last_used_at";
/// A part of the statement that reads the change log.
pub(crate) const READ_FEED: &str = "FROM changes WHERE seq > ?1";
/// Parts of all statements that replicas send on their own, periodically: polls of the change log, deletion
/// of expired rows, pruning and preloading.
const BACKGROUND_STATEMENTS: [&str; 9] = [
    WRITE_LAST_USED,
    READ_FEED,
    "UPDATE session_bindings SET expires_at",
    "FROM session_bindings WHERE expires_at <",
    "SELECT ended.session_id",
    "DELETE FROM usage_requests",
    "DELETE FROM usage_events",
    "DELETE FROM changes",
    "ORDER BY last_used_at DESC",
];

/// A database of one of the kinds that the service supports.
pub(crate) enum TestDatabase {
    Embedded(TempDir),
    /// Boxed because it is far larger than the other variants.
    TestServer(Box<HranaServer>, TempDir),
    Real(String, Option<TempDir>),
}

impl TestDatabase {
    pub(crate) fn embedded() -> Self {
        Self::Embedded(tempfile::tempdir().unwrap())
    }

    pub(crate) async fn test_server() -> Self {
        let server = HranaServer::builder().token(TOKEN).read_only_token("reader").start().await.unwrap();
        Self::TestServer(Box::new(server), token_folder(TOKEN))
    }

    /// Returns the real remote database that the environment names, if any.
    pub(crate) fn real() -> Option<Self> {
        let url = std::env::var("TENANT_AUTH_TEST_REMOTE_URL").ok()?;
        let token = std::env::var("TENANT_AUTH_TEST_REMOTE_TOKEN").ok();
        Some(Self::Real(url, token.map(|token| token_folder(&token))))
    }

    /// Returns one database of each available kind.
    pub(crate) async fn all() -> Vec<Self> {
        let mut all = vec![Self::embedded(), Self::test_server().await];
        all.extend(Self::real());
        all
    }

    /// Returns whether other tests may use it at the same time.
    pub(crate) fn is_shared(&self) -> bool {
        match self {
            Self::Embedded(_) | Self::TestServer(..) => false,
            Self::Real(..) => true,
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Embedded(_) => "embedded",
            Self::TestServer(..) => "test server",
            Self::Real(..) => "real server",
        }
    }

    pub(crate) fn server(&self) -> &HranaServer {
        match self {
            Self::TestServer(server, _) => server,
            Self::Embedded(_) | Self::Real(..) => panic!("only the test server has switches"),
        }
    }

    /// Returns how many requests callers have caused so far. The background requests of replicas, which run
    /// on a timer, are not counted.
    pub(crate) fn caller_requests(&self) -> u64 {
        self.server().requests_without(&BACKGROUND_STATEMENTS)
    }

    pub(crate) fn server_mut(&mut self) -> &mut HranaServer {
        match self {
            Self::TestServer(server, _) => server,
            Self::Embedded(_) | Self::Real(..) => panic!("only the test server has switches"),
        }
    }

    /// Makes the database follow a clock. Databases of the other kinds use the machine's clock.
    pub(crate) fn follow_clock(&self, clock: &Arc<ManualClock>) {
        let clock = Arc::clone(clock);
        match self {
            Self::TestServer(server, _) => server.set_clock(move || clock.now().0),
            Self::Embedded(_) | Self::Real(..) => {}
        }
    }

    /// Returns the settings to connect to it.
    pub(crate) fn settings(&self) -> Settings {
        let (url, token) = match self {
            Self::Embedded(folder) => (format!("file:{}", folder.path().join("auth.db").display()), None),
            Self::TestServer(server, folder) => (server.url(), Some(folder)),
            Self::Real(url, folder) => (url.clone(), folder.as_ref()),
        };
        let token = token.map(|folder| token_file(folder).display().to_string());
        Settings::default()
            .with_flag("TENANT_AUTH_LISTEN", Some("127.0.0.1:0".to_owned()))
            .with_flag("TENANT_AUTH_OPS_LISTEN", Some("127.0.0.1:0".to_owned()))
            .with_flag("TENANT_AUTH_DRAIN_DELAY", Some("0s".to_owned()))
            // Tests that count requests or control time poll the feed explicitly.
            .with_flag("TENANT_AUTH_FEED_INTERVAL", Some("off".to_owned()))
            // The heartbeat is written explicitly, too.
            .with_flag("TENANT_AUTH_HEARTBEAT_INTERVAL", Some("off".to_owned()))
            .with_flag("TENANT_AUTH_CREATE_SCHEMA", Some("true".to_owned()))
            // A busy machine must not look like a slow database: each retry would be counted.
            .with_flag("TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT", Some("10s".to_owned()))
            .with_flag("TENANT_AUTH_DATABASE_TIMEOUT", Some("20s".to_owned()))
            .with_flag("TENANT_AUTH_DATABASE_URL", Some(url))
            .with_flag("TENANT_AUTH_DATABASE_TOKEN_FILE", token)
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        match self {
            Self::TestServer(_, folder) => token_file(folder),
            Self::Embedded(_) | Self::Real(..) => panic!("only the test server's token can change"),
        }
    }

    /// Creates the database client that the service uses.
    pub(crate) fn client(&self) -> DatabaseClient {
        server::build_database_client(
            ServiceConfig::read(self.settings()).unwrap().0.database,
            &SystemClock::shared(),
        )
        .unwrap()
    }
}

fn token_folder(token: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    // With a trailing line break, as in most token files.
    std::fs::write(token_file(&folder), format!("{token}\n")).unwrap();
    folder
}

fn token_file(folder: &TempDir) -> PathBuf {
    folder.path().join("token")
}

/// A service and its clients.
pub(crate) struct TestService {
    pub(crate) running: RunningService,
    pub(crate) channel: Channel,
}

impl TestService {
    /// Starts a service on a database and waits until it is ready.
    pub(crate) async fn start(database: &TestDatabase) -> Self {
        Self::start_with(database.settings(), SystemClock::shared()).await
    }

    /// Starts a service that uses a clock, as its database does.
    pub(crate) async fn start_at(database: &TestDatabase, clock: &Arc<ManualClock>) -> Self {
        database.follow_clock(clock);
        let clock: SharedClock = Arc::clone(clock) as SharedClock;
        Self::start_with(database.settings(), clock).await
    }

    pub(crate) async fn start_with(settings: Settings, clock: SharedClock) -> Self {
        let mut service = Self::start_unready(settings, clock).await;
        service.running.wait_until_ready().await.unwrap();
        // The requests of the startup must not count in tests that count requests.
        service.running.wait_until_preloaded().await;
        service
    }

    /// Starts a service without waiting for its database.
    pub(crate) async fn start_unready(settings: Settings, clock: SharedClock) -> Self {
        crate::capture_log();
        let config = ServiceConfig::read(settings).unwrap().0;
        let running = server::start(config, clock).await.unwrap();
        let channel = Channel::from_shared(format!("http://{}", running.address())).unwrap().connect_lazy();
        Self { running, channel }
    }

    pub(crate) fn validation(&self) -> ValidationServiceClient<Channel> {
        ValidationServiceClient::new(self.channel.clone())
    }

    pub(crate) fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone())
    }

    pub(crate) async fn validate(&self, key: &str) -> Result<v1::ValidateKeyResponse, Status> {
        self.validate_for(key, &[]).await
    }

    pub(crate) async fn validate_for(
        &self,
        key: &str,
        scopes: &[&str],
    ) -> Result<v1::ValidateKeyResponse, Status> {
        let request = v1::ValidateKeyRequest { key: key.to_owned(), required_scopes: owned(scopes) };
        Ok(self.validation().validate_key(request).await?.into_inner())
    }

    /// Polls the feed until the database answers within the short timeout of a poll: a busy machine may need
    /// several attempts.
    pub(crate) async fn poll_feed(&self) {
        let mut last = None;
        let polling = async {
            while let Err(error) = self.running.feed().poll().await {
                last = Some(error);
            }
        };
        if tokio::time::timeout(Duration::from_secs(30), polling).await.is_err() {
            panic!("the feed must poll successfully: {last:?}");
        }
    }

    /// Creates a tenant and returns its id.
    pub(crate) async fn create_tenant(&self, name: &str) -> String {
        let request =
            v1::CreateTenantRequest { name: name.to_owned(), plan: "pro".to_owned(), ..Default::default() };
        self.admin().create_tenant(request).await.unwrap().into_inner().tenant.unwrap().tenant_id
    }

    /// Issues a key and returns its plaintext and its id.
    pub(crate) async fn issue_key(&self, tenant: &str, scopes: &[&str]) -> (String, String) {
        let request = v1::IssueKeyRequest {
            tenant_id: tenant.to_owned(),
            name: "test".to_owned(),
            scopes: owned(scopes),
            expires_at: None,
        };
        let issued = self.admin().issue_key(request).await.unwrap().into_inner();
        (issued.plaintext, issued.key.unwrap().key_id)
    }

    pub(crate) async fn revoke_key(&self, key_id: &str) {
        let request = v1::RevokeKeyRequest { key_id: key_id.to_owned(), reason: "test".to_owned() };
        self.admin().revoke_key(request).await.unwrap();
    }
}

/// A plain HTTP response.
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    /// Status line and headers, in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Sends a request without a body, such as `GET /livez`, on a new connection.
pub(crate) async fn http_request(address: SocketAddr, request: &str) -> std::io::Result<HttpAnswer> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("{request} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").expect("the response must have headers and a body");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok(HttpAnswer { status, head: head.to_lowercase(), body: body.to_owned() })
}

/// Repeats a request until the response is as wanted.
pub(crate) async fn http_until(
    address: SocketAddr,
    request: &str,
    wanted: impl Fn(&HttpAnswer) -> bool,
) -> HttpAnswer {
    let request_loop = async {
        loop {
            let answer = http_request(address, request).await.unwrap();
            if wanted(&answer) {
                return answer;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), request_loop)
        .await
        .expect("the response must become as wanted")
}

pub(crate) fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

pub(crate) fn change() -> Change {
    Change { actor: Actor { caller: "test".to_owned(), request_id: "req-1".to_owned() }, at: NOW }
}

pub(crate) fn call(lane: Lane) -> Call {
    Call::within(lane, Duration::from_secs(10))
}

/// Returns the verdict, or the status code of the failure.
pub(crate) fn outcome(result: &Result<v1::ValidateKeyResponse, Status>) -> String {
    match result {
        Ok(response) => response.verdict().as_str_name().to_owned(),
        Err(status) => format!("{:?}", status.code()),
    }
}

/// Returns a well-formed key that was never issued.
pub(crate) fn unknown_key() -> String {
    use tenant_auth_svc::domain::key::KeyFormat;
    KeyFormat::new("ta").unwrap().generate().unwrap().expose().to_owned()
}
