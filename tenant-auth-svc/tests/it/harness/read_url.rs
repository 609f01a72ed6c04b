//! A service with a URL for writes and one for reads, and another service elsewhere.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1::{self, Source};
use tenant_auth_svc::{
    config::{ServiceConfig, Settings},
    domain::clock::{Clock as _, ManualClock, SharedClock},
};
use tenant_auth_testkit::HranaServer;

use super::{NOW, TOKEN, TestDatabase, TestService, http_request, outcome, scrape::Scrape};

/// At the default interval of the feed, at most this long passes between two polls.
pub(crate) const POLL_STEP: Duration = Duration::from_millis(275);

/// A database with a read replica, a service with the URLs of both, and one that knows only the primary.
pub(crate) struct TwoUrls {
    pub(crate) primary: TestDatabase,
    pub(crate) read_replica: HranaServer,
    pub(crate) clock: Arc<ManualClock>,
    /// It reads from the read replica.
    pub(crate) here: TestService,
    pub(crate) elsewhere: TestService,
    pub(crate) tenant: String,
}

/// The settings of a service with both URLs. The feed is polled explicitly nevertheless.
pub(crate) fn two_urls(primary: Settings, read_url: &str) -> ServiceConfig {
    let settings = primary
        .with_flag("TENANT_AUTH_DATABASE_READ_URL", Some(read_url.to_owned()))
        .with_flag("TENANT_AUTH_FEED_INTERVAL", Some("250ms".to_owned()))
        .with_flag("TENANT_AUTH_HEARTBEAT_INTERVAL", Some("1s".to_owned()));
    let mut config = ServiceConfig::read(settings).unwrap().0;
    config.cache.feed_interval = None;
    config
}

impl TwoUrls {
    pub(crate) async fn start() -> Self {
        Self::start_with(|settings| settings).await
    }

    pub(crate) async fn start_with(adjust: impl Fn(Settings) -> Settings) -> Self {
        let primary = TestDatabase::test_server().await;
        let clock = ManualClock::at(NOW);
        primary.follow_clock(&clock);
        let shared = || Arc::clone(&clock) as SharedClock;
        let beating = primary.settings().with_flag("TENANT_AUTH_HEARTBEAT_INTERVAL", Some("1s".to_owned()));
        let elsewhere = TestService::start_with(beating, shared()).await;
        let tenant = elsewhere.create_tenant("Acme").await;
        let read_replica =
            HranaServer::builder().token(TOKEN).replica_of(primary.server()).start().await.unwrap();
        let replica_clock = Arc::clone(&clock);
        read_replica.set_clock(move || replica_clock.now().0);
        let config = two_urls(adjust(primary.settings()), &read_replica.url());
        let mut here = TestService::start_configured(config, shared()).await;
        here.running.wait_until_ready().await.unwrap();
        here.running.wait_until_preloaded().await;
        let this = Self { primary, read_replica, clock, here, elsewhere, tenant };
        this.follow().await;
        this
    }

    /// The read replica catches up, and time passes until it is used.
    pub(crate) async fn follow(&self) {
        for _ in 0..60 {
            self.read_replica.catch_up().await.unwrap();
            self.step().await;
            if self.is_used().await && self.here.running.feed().poll().await.is_ok() {
                return;
            }
        }
        panic!("the read replica must be used: {}", self.status().await);
    }

    /// Time passes until the next poll of the feed.
    pub(crate) async fn step(&self) {
        self.clock.advance(POLL_STEP);
        // A failure is part of some tests.
        let _ = self.here.running.feed().poll().await;
    }

    /// One second passes, with heartbeats.
    pub(crate) async fn second(&self) {
        for _ in 0..4 {
            self.clock.advance(Duration::from_millis(250));
            let _ = self.elsewhere.running.beat_if_due().await;
            let _ = self.elsewhere.running.feed().poll().await;
            let _ = self.here.running.beat_if_due().await;
            let _ = self.here.running.feed().poll().await;
        }
    }

    /// Whether reads go to the read replica.
    pub(crate) async fn is_used(&self) -> bool {
        Scrape::collect(&self.here).await.value("tenant_auth_database_read_replica_used") == 1.0
    }

    /// Returns the line about the database.
    pub(crate) async fn status(&self) -> String {
        let ops = self.here.running.ops_address().unwrap();
        let body = http_request(ops, "GET /readyz?verbose").await.unwrap().body;
        body.lines().find(|line| line.starts_with("database ")).unwrap().to_owned()
    }

    pub(crate) async fn outcome(&self, key: &str) -> String {
        outcome(&self.here.validate(key).await)
    }

    /// Returns the source and the age, in milliseconds, of an answer.
    pub(crate) async fn provenance(&self, key: &str) -> (Source, i64) {
        let provenance = self.here.validate(key).await.unwrap().provenance.unwrap();
        let age = provenance.age.unwrap_or_default();
        (provenance.source(), age.seconds * 1_000 + i64::from(age.nanos) / 1_000_000)
    }

    /// A key that this service has never looked up, and that the read replica has.
    pub(crate) async fn cold_key(&self) -> (String, String) {
        let issued = self.elsewhere.issue_key(&self.tenant, &[]).await;
        self.read_replica.catch_up().await.unwrap();
        issued
    }

    /// Returns how many requests with a part of a statement the read replica and the primary have received.
    pub(crate) fn requests_with(&self, part: &str) -> [u64; 2] {
        [self.read_replica.requests_with(part), self.primary.server().requests_with(part)]
    }

    pub(crate) async fn listed_keys(&self) -> Vec<v1::ApiKey> {
        let list = v1::ListKeysRequest { tenant_id: self.tenant.clone(), ..Default::default() };
        self.here.admin().list_keys(list).await.unwrap().into_inner().keys
    }
}
