//! One replica, and the keys that it validates.

use std::{path::Path, sync::Arc};

use tenant_auth_svc::{
    config::{ServiceConfig, Settings},
    database,
    domain::{
        clock::{ManualClock, SharedClock},
        key::{KeyHash, PresentedKey},
        network::ClientAddress,
        scope::{Scope, ScopeSet},
        validate::KeyQuery,
    },
    server::{self, RunningService},
};
use tenant_auth_testkit::HranaServer;

/// The scope that half of the requests require.
pub(crate) const SCOPE: &str = "sim:read";

/// A flaw of the service, in the tests that show that the oracle detects it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SeededFlaw {
    None,
    /// The first replica never polls its feed, and reports that it does.
    IgnoresFeed,
    /// A configuration variable has another value than the oracle assumes.
    OtherSetting(&'static str, &'static str),
    /// The first replica trusts any database: it is restarted without telling the oracle.
    TrustsAnyDatabase,
    /// An acknowledged usage request is not counted.
    LosesUsage,
    /// An acknowledged revocation is undone.
    UndoesRevocation,
    /// Leases are granted as if nothing had been counted.
    GrantsWithoutCounting,
    /// The ids of consumption are not remembered.
    ForgetsConsumeIds,
}

impl SeededFlaw {
    /// Whether only a replica whose one URL is that of a read replica shows it.
    pub(crate) fn is_about_one_url(self) -> bool {
        matches!(self, Self::OtherSetting("TENANT_AUTH_HEARTBEAT_INTERVAL", _))
    }
}

/// The address of all callers, and the network that contains it, as the database stores networks.
pub(crate) const CALLERS_ADDRESS: &str = "192.0.2.1";
pub(crate) const CALLERS_NETWORK: &str = r#"["192.0.2.0/24"]"#;
/// All values of a key's networks: everywhere, with and without the callers.
pub(crate) const STORED_NETWORKS: [&str; 3] = ["[]", CALLERS_NETWORK, r#"["203.0.113.0/24"]"#];

/// A key that a caller may present. Some were never issued.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub(crate) plaintext: String,
    /// Its SHA-256 digest, as the database stores it.
    pub(crate) digest: String,
}

impl Credential {
    pub(crate) fn new(plaintext: &str) -> Self {
        let digest = hex::encode_upper(Self::hash_of(plaintext).as_bytes());
        Self { plaintext: plaintext.to_owned(), digest }
    }

    pub(crate) fn hash(&self) -> KeyHash {
        Self::hash_of(&self.plaintext)
    }

    /// Returns the key query, which requires the scope if `reads` is set.
    pub(crate) fn key_query(&self, reads: bool) -> KeyQuery {
        let scopes = if reads { vec![Scope::parse(SCOPE).unwrap()] } else { Vec::new() };
        let required_scopes = ScopeSet::new(scopes).unwrap();
        let client_address = ClientAddress::parse(CALLERS_ADDRESS).ok();
        let key = PresentedKey::new(self.plaintext.clone());
        KeyQuery { key, required_scopes, client_address }
    }

    fn hash_of(plaintext: &str) -> KeyHash {
        KeyHash::of(&PresentedKey::new(plaintext.to_owned()))
    }
}

/// Starts a replica on a database or a read replica of it. It may not be ready yet.
pub(crate) async fn start_replica(
    (server, read_url): (&HranaServer, Option<String>),
    folder: &Path,
    clock: &Arc<ManualClock>,
    heartbeat: &str,
    flaw: SeededFlaw,
) -> RunningService {
    // The feed must be on for a read URL. The steps poll it nevertheless.
    let has_read_url = read_url.is_some();
    let feed = if has_read_url { "250ms" } else { "off" };
    let mut settings = settings(server, folder)
        .with_flag("TENANT_AUTH_DATABASE_READ_URL", read_url)
        .with_flag("TENANT_AUTH_FEED_INTERVAL", Some(feed.to_owned()))
        .with_flag("TENANT_AUTH_CREATE_SCHEMA", Some("true".to_owned()))
        .with_flag("TENANT_AUTH_HEARTBEAT_INTERVAL", Some(heartbeat.to_owned()));
    // A read URL without the heartbeat is refused.
    let is_refused = |name| name == "TENANT_AUTH_HEARTBEAT_INTERVAL" && has_read_url;
    if let SeededFlaw::OtherSetting(name, value) = flaw
        && !is_refused(name)
    {
        settings = settings.with_flag(name, Some(value.to_owned()));
    }
    let mut config = ServiceConfig::read(settings).unwrap().0;
    config.cache.feed_interval = None;
    server::start(config, Arc::clone(clock) as SharedClock).await.unwrap()
}

/// Creates the schema in an empty database, as `tenant-auth-svc migrate` does.
pub(crate) async fn migrate(server: &HranaServer, folder: &Path, clock: &Arc<ManualClock>) {
    let config = ServiceConfig::read(settings(server, folder)).unwrap().0;
    let clock = Arc::clone(clock) as SharedClock;
    let client = server::build_database_client(config.database, &clock).unwrap();
    database::migrate::migrate(&client, &clock).await.unwrap();
}

fn settings(server: &HranaServer, folder: &Path) -> Settings {
    Settings::default()
        .with_flag("TENANT_AUTH_LISTEN", Some("127.0.0.1:0".to_owned()))
        .with_flag("TENANT_AUTH_OPS_LISTEN", Some("off".to_owned()))
        .with_flag("TENANT_AUTH_DRAIN_DELAY", Some("0s".to_owned()))
        .with_flag("TENANT_AUTH_DATABASE_URL", Some(server.url()))
        .with_flag("TENANT_AUTH_DATABASE_TOKEN_FILE", Some(folder.join("token").display().to_string()))
        // Nothing hangs for this long: a busy machine must not make a healthy database look slow.
        .with_flag("TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT", Some("20s".to_owned()))
        .with_flag("TENANT_AUTH_DATABASE_TIMEOUT", Some("20s".to_owned()))
        // Writes do hang, and time out in real time.
        .with_flag("TENANT_AUTH_DATABASE_WRITE_TIMEOUT", Some("400ms".to_owned()))
        .with_flag("TENANT_AUTH_CACHE_GRACE", Some("20m".to_owned()))
        // The steps of the simulation poll the feed.
        .with_flag("TENANT_AUTH_FEED_INTERVAL", Some("off".to_owned()))
}
