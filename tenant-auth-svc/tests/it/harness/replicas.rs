//! Two replicas on one database, and requests about the state of the database.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1::{self, Source, Verdict, info_service_client::InfoServiceClient};
use tenant_auth_svc::{
    config::Settings,
    domain::{
        clock::{ManualClock, SharedClock},
        key::{KeyHash, PresentedKey},
    },
};

use super::{NOW, TestDatabase, TestService, outcome};

/// Two replicas on one database and one clock.
pub(crate) struct Replicas {
    pub(crate) database: TestDatabase,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) first: TestService,
    pub(crate) second: TestService,
    pub(crate) tenant: String,
}

impl Replicas {
    pub(crate) async fn start() -> Self {
        Self::start_with(|settings| settings).await
    }

    pub(crate) async fn start_with(adjust: impl Fn(Settings) -> Settings) -> Self {
        let database = TestDatabase::test_server().await;
        let clock = ManualClock::at(NOW);
        let shared = || Arc::clone(&clock) as SharedClock;
        let one = TestService::start_with(adjust(database.settings()), shared()).await;
        let two = TestService::start_with(adjust(database.settings()), shared()).await;
        let tenant = one.create_tenant("Acme").await;
        let replicas = Self { database, clock, first: one, second: two, tenant };
        replicas.poll_second().await;
        replicas
    }

    pub(crate) async fn poll_second(&self) {
        self.second.poll_feed().await;
    }

    pub(crate) async fn import_on_first(&self, key: &str) {
        let hash = KeyHash::of(&PresentedKey::new(key.to_owned()));
        let import = v1::ImportKey {
            tenant_id: self.tenant.clone(),
            sha256: hash.as_bytes().to_vec(),
            ..Default::default()
        };
        self.first.admin().import_keys(v1::ImportKeysRequest { keys: vec![import] }).await.unwrap();
    }

    pub(crate) async fn validate_on_second(&self, key: &str) -> (Verdict, Source) {
        let response = self.second.validate(key).await.unwrap();
        (response.verdict(), response.provenance.unwrap().source())
    }
}

/// Longer than a read replica may lag before the log counts as rolled back.
pub(crate) const DETECTION_DELAY: Duration = Duration::from_secs(3);

pub(crate) async fn database_state(service: &TestService) -> v1::GetDatabaseStateResponse {
    service.admin().get_database_state(v1::GetDatabaseStateRequest {}).await.unwrap().into_inner()
}

pub(crate) async fn accept_database(service: &TestService) -> v1::AcceptDatabaseResponse {
    let request = v1::AcceptDatabaseRequest { reason: "restored".to_owned() };
    service.admin().accept_database(request).await.unwrap().into_inner()
}

/// All replicas poll the log for long enough to reach a conclusion.
pub(crate) async fn poll_until_noticed(replicas: &Replicas) {
    for service in [&replicas.first, &replicas.second] {
        let _ = service.running.feed().poll().await;
    }
    replicas.clock.advance(DETECTION_DELAY);
    for service in [&replicas.first, &replicas.second] {
        assert!(service.running.feed().poll().await.is_err(), "the database is distrusted");
    }
}

/// Returns two keys that both replicas have cached: one valid, one revoked.
pub(crate) async fn cached_keys(replicas: &Replicas) -> [(String, String); 2] {
    let keys = [
        replicas.first.issue_key(&replicas.tenant, &[]).await,
        replicas.first.issue_key(&replicas.tenant, &[]).await,
    ];
    for service in [&replicas.first, &replicas.second] {
        service.poll_feed().await;
        for (key, _) in &keys {
            assert_eq!(outcome(&service.validate(key).await), "VERDICT_VALID");
        }
    }
    keys
}

/// Returns what a replica reports about itself.
pub(crate) async fn replica_state(service: &TestService) -> v1::ReplicaState {
    let mut info = InfoServiceClient::new(service.channel.clone());
    let info = info.get_server_info(v1::GetServerInfoRequest {}).await.unwrap().into_inner();
    info.replica.unwrap()
}

pub(crate) async fn applied_revision(service: &TestService) -> i64 {
    replica_state(service).await.applied_revision
}
