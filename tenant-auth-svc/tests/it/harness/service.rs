//! A service on a test database, with its clients.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1::{
    self, admin_service_client::AdminServiceClient, validation_service_client::ValidationServiceClient,
};
use tenant_auth_svc::{
    config::{ServiceConfig, Settings},
    domain::clock::{ManualClock, SharedClock, SystemClock},
    server::{self, RunningService},
};
use tonic::{Status, transport::Channel};

use super::{TestDatabase, owned};

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

    pub(crate) async fn start_unready(settings: Settings, clock: SharedClock) -> Self {
        Self::start_configured(ServiceConfig::read(settings).unwrap().0, clock).await
    }

    /// Starts a service without waiting for its database.
    pub(crate) async fn start_configured(config: ServiceConfig, clock: SharedClock) -> Self {
        crate::capture_log();
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
        let request = v1::ValidateKeyRequest {
            key: key.to_owned(),
            required_scopes: owned(scopes),
            ..Default::default()
        };
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
            ..Default::default()
        };
        let issued = self.admin().issue_key(request).await.unwrap().into_inner();
        (issued.plaintext, issued.key.unwrap().key_id)
    }

    pub(crate) async fn revoke_key(&self, key_id: &str) {
        let request = v1::RevokeKeyRequest { key_id: key_id.to_owned(), reason: "test".to_owned() };
        self.admin().revoke_key(request).await.unwrap();
    }
}
