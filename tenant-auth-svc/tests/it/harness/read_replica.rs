//! A database with a read replica, and a service at each.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1::{Source, Verdict};
use tenant_auth_svc::{
    config::Settings,
    domain::clock::{Clock as _, ManualClock, SharedClock},
};
use tenant_auth_testkit::HranaServer;

use super::{NOW, TOKEN, TestDatabase, TestService};

/// Two service replicas: one reads from the primary, one from a read replica of it.
pub(crate) struct PrimaryAndReadReplica {
    pub(crate) primary: TestDatabase,
    pub(crate) read_replica: HranaServer,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) at_primary: TestService,
    pub(crate) at_read_replica: TestService,
    pub(crate) tenant: String,
}

impl PrimaryAndReadReplica {
    pub(crate) async fn start() -> Self {
        let primary = TestDatabase::test_server().await;
        let clock = ManualClock::at(NOW);
        primary.follow_clock(&clock);
        let shared = || Arc::clone(&clock) as SharedClock;
        let beating =
            |settings: Settings| settings.with_flag("TENANT_AUTH_HEARTBEAT_INTERVAL", Some("1s".to_owned()));
        let here = TestService::start_with(beating(primary.settings()), shared()).await;
        let tenant = here.create_tenant("Acme").await;
        let read_replica =
            HranaServer::builder().token(TOKEN).replica_of(primary.server()).start().await.unwrap();
        let read_replica_clock = Arc::clone(&clock);
        read_replica.set_clock(move || read_replica_clock.now().0);
        let settings = primary.settings().with_flag("TENANT_AUTH_DATABASE_URL", Some(read_replica.url()));
        let there = TestService::start_with(beating(settings), shared()).await;
        let region = Self { primary, read_replica, clock, at_primary: here, at_read_replica: there, tenant };
        region.poll_both_feeds().await;
        region
    }

    pub(crate) async fn poll_both_feeds(&self) {
        self.read_replica.catch_up().await.unwrap();
        self.at_primary.poll_feed().await;
        self.at_read_replica.poll_feed().await;
    }

    pub(crate) async fn poll_read_replica_feed(&self) {
        self.read_replica.catch_up().await.unwrap();
        self.at_read_replica.poll_feed().await;
    }

    /// Advances the clocks by one second. A replica whose heartbeat is due writes it, and both poll the
    /// change log.
    pub(crate) async fn advance_one_second(&self) {
        self.clock.advance(Duration::from_secs(1));
        for service in [&self.at_primary, &self.at_read_replica] {
            service.running.beat_if_due().await.unwrap();
            let _ = service.running.feed().poll().await;
        }
    }

    pub(crate) async fn validate_at_read_replica(&self, key: &str) -> (Verdict, Source) {
        let response = self.at_read_replica.validate(key).await.unwrap();
        (response.verdict(), response.provenance.unwrap().source())
    }
}
