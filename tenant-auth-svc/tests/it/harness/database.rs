//! Databases to run against, of every kind that the service supports.

use std::{path::PathBuf, sync::Arc};

use tempfile::TempDir;
use tenant_auth_svc::{
    config::{DatabaseLocation, ServiceConfig, Settings},
    database::{
        backend::Backend,
        client::DatabaseClient,
        hrana::{RemoteConfig, RemoteEngine},
        libsql::EmbeddedEngine,
    },
    domain::clock::{Clock as _, ManualClock, SystemClock},
    server,
};
use tenant_auth_testkit::HranaServer;

use super::{READ_FEED, TOKEN, WRITE_LAST_USED};

/// Parts of all statements that replicas send on their own, periodically: polls of the change log, deletion
/// of expired rows, pruning and preloading.
pub(crate) const BACKGROUND_STATEMENTS: [&str; 9] = [
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

/// Settings with database timeouts so long that a hanging database is not mistaken for another fault.
pub(crate) fn settings_with_long_timeouts(database: &TestDatabase) -> Settings {
    database
        .settings()
        .with_flag("TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT", Some("30s".to_owned()))
        .with_flag("TENANT_AUTH_DATABASE_TIMEOUT", Some("30s".to_owned()))
}

pub(crate) fn backend(database: &TestDatabase) -> Backend {
    let config = ServiceConfig::read(database.settings()).unwrap().0.database;
    match config.location {
        DatabaseLocation::Embedded(path) => Backend::Embedded(EmbeddedEngine::open(&path).unwrap()),
        DatabaseLocation::Remote { url, token_file: token, .. } => {
            let config = RemoteConfig { url, token, proxy: None, connect_timeout: config.connect_timeout };
            Backend::Remote(RemoteEngine::new(config).unwrap())
        }
    }
}
