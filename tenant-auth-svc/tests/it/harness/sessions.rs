//! Two replicas with a key to bind sessions to, and requests about sessions.

use std::{collections::HashMap, sync::Arc};

use tenant_auth_proto::v1::{
    self, SessionExpiry, Source, Verdict, session_service_client::SessionServiceClient,
};
use tenant_auth_svc::{
    config::Settings,
    domain::clock::{ManualClock, SharedClock},
};
use tonic::{Status, transport::Channel};

use super::{NOW, TestDatabase, TestService, owned};

pub(crate) struct SessionReplicas {
    pub(crate) database: TestDatabase,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) first: TestService,
    pub(crate) second: TestService,
    pub(crate) tenant: String,
    pub(crate) key: String,
    pub(crate) key_id: String,
}

impl SessionReplicas {
    pub(crate) async fn start() -> Self {
        Self::start_with(|settings| settings).await
    }

    pub(crate) async fn start_with(adjust: impl Fn(Settings) -> Settings) -> Self {
        let database = TestDatabase::test_server().await;
        let clock = ManualClock::at(NOW);
        database.follow_clock(&clock);
        let shared = || Arc::clone(&clock) as SharedClock;
        let one = TestService::start_with(adjust(database.settings()), shared()).await;
        let two = TestService::start_with(adjust(database.settings()), shared()).await;
        let tenant = one.create_tenant("Acme").await;
        let (key, key_id) = one.issue_key(&tenant, &["a", "b"]).await;
        let replicas = Self { database, clock, first: one, second: two, tenant, key, key_id };
        replicas.poll_second().await;
        replicas
    }

    pub(crate) async fn poll_second(&self) {
        self.second.poll_feed().await;
    }

    pub(crate) async fn bind_on_first(&self, id: &str) {
        let bound = bind_session(&self.first, id, &self.key, 60, SessionExpiry::Fixed).await.unwrap();
        assert_eq!((bound.verdict(), bound.already_bound), (Verdict::Valid, false));
    }

    pub(crate) async fn validate_on_second(&self, id: &str) -> (Verdict, Source) {
        verdict_and_source(validate_session(&self.second, id, "", &[]).await)
    }
}

pub(crate) fn session_client(service: &TestService) -> SessionServiceClient<Channel> {
    SessionServiceClient::new(service.channel.clone())
}

pub(crate) fn verdict_and_source(answer: Result<v1::ValidateSessionResponse, Status>) -> (Verdict, Source) {
    let answer = answer.unwrap();
    (answer.verdict(), answer.provenance.unwrap().source())
}

pub(crate) async fn bind_session(
    service: &TestService,
    id: &str,
    key: &str,
    seconds: i64,
    expiry: SessionExpiry,
) -> Result<v1::BindSessionResponse, Status> {
    let request = v1::BindSessionRequest {
        session_id: id.to_owned(),
        key: key.to_owned(),
        ttl: Some(prost_types::Duration { seconds, nanos: 0 }),
        expiry: expiry.into(),
        attributes: HashMap::from([("user".to_owned(), "alice".to_owned())]),
        ..Default::default()
    };
    Ok(session_client(service).bind_session(request).await?.into_inner())
}

pub(crate) async fn validate_session(
    service: &TestService,
    id: &str,
    key: &str,
    scopes: &[&str],
) -> Result<v1::ValidateSessionResponse, Status> {
    let request = v1::ValidateSessionRequest {
        session_id: id.to_owned(),
        key: key.to_owned(),
        required_scopes: owned(scopes),
        ..Default::default()
    };
    Ok(service.validation().validate_session(request).await?.into_inner())
}
