//! Operator calls. They bypass the proxy, so that it does not count them.

mod limits;

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use prost_types::FieldMask;
use tenant_auth_proto::v1::{
    CreateTenantRequest, IssueKeyRequest, ResumeTenantRequest, RevokeKeyRequest, SuspendTenantRequest,
    UnbindSessionRequest, UpdateKeyRequest, UpdateTenantRequest, WatchRequest, WatchResponse,
    admin_service_client::AdminServiceClient, info_service_client::InfoServiceClient,
    session_service_client::SessionServiceClient, watch_response::Event,
    watch_service_client::WatchServiceClient,
};
use tokio::time::{interval, timeout};
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};

pub use self::limits::{CreditsToAdd, LimitOfTenant, NewCredits, NewLimit, NewQuota, NewRate};
use crate::WAIT_TIMEOUT;

/// A key that was issued.
#[derive(Clone, Debug)]
pub struct IssuedKey {
    /// The text that the customer presents.
    pub plaintext: String,
    /// Its id.
    pub key_id: String,
}

/// An operator's connection.
#[derive(Clone, Debug)]
pub struct AdminClient {
    admin: AdminServiceClient<Channel>,
    info: InfoServiceClient<Channel>,
    sessions: SessionServiceClient<Channel>,
    watch: WatchServiceClient<Channel>,
}

/// The change events of the service. `None` if the service has no feed.
#[derive(Debug)]
pub struct InvalidationStream(Option<Streaming<WatchResponse>>);

impl InvalidationStream {
    /// Waits until the service has polled the creation of a tenant, and returns the revision.
    ///
    /// # Errors
    /// Fails if that does not happen within the timeout.
    pub async fn until_tenant_seen(&mut self, tenant: &str) -> anyhow::Result<Option<i64>> {
        let Some(stream) = &mut self.0 else { return Ok(None) };
        let reading = async {
            while let Some(watch_event) = stream.message().await? {
                if matches!(watch_event.event, Some(Event::Invalidation(about)) if about.id == tenant) {
                    return Ok(Some(watch_event.revision));
                }
            }
            anyhow::bail!("the stream ended before the change of {tenant}")
        };
        timeout(WAIT_TIMEOUT, reading).await.with_context(|| format!("no change event of {tenant}"))?
    }
}

impl AdminClient {
    /// Connects an operator to the service at an address.
    ///
    /// # Errors
    /// Fails if the address is invalid.
    pub fn connect(service: SocketAddr) -> anyhow::Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{service}"))?.connect_lazy();
        Ok(Self {
            admin: AdminServiceClient::new(channel.clone()),
            info: InfoServiceClient::new(channel.clone()),
            sessions: SessionServiceClient::new(channel.clone()),
            watch: WatchServiceClient::new(channel),
        })
    }

    /// Subscribes to change events, and waits until the subscription is active.
    ///
    /// # Errors
    /// Fails if the service does not start the stream.
    pub async fn watch_invalidations(&mut self) -> anyhow::Result<InvalidationStream> {
        let mut stream = match self.watch.watch(WatchRequest { resume_after_revision: 0 }).await {
            Ok(stream) => stream.into_inner(),
            Err(status) if status.code() == Code::FailedPrecondition => return Ok(InvalidationStream(None)),
            Err(status) => return Err(status.into()),
        };
        // The first message has the starting revision; after it each message is a change.
        timeout(WAIT_TIMEOUT, stream.message()).await.context("no first message on the stream")??;
        Ok(InvalidationStream(Some(stream)))
    }

    /// Creates a tenant.
    ///
    /// # Errors
    /// Fails if the service rejects it or does not become ready.
    pub async fn create_tenant(&mut self, tenant: &str) -> anyhow::Result<()> {
        let request = CreateTenantRequest {
            tenant_id: tenant.to_owned(),
            name: tenant.to_owned(),
            plan: "pro".to_owned(),
        };
        retry_until_ready(|| {
            let (mut admin, request) = (self.admin.clone(), request.clone());
            async move { admin.create_tenant(request).await }
        })
        .await?;
        Ok(())
    }

    /// Issues a key of a tenant that expires after this time.
    ///
    /// # Errors
    /// Fails if the service rejects it or does not become ready.
    pub async fn issue_key(
        &mut self,
        name: &str,
        tenant: &str,
        scopes: &[String],
        expires_in: Option<Duration>,
    ) -> anyhow::Result<IssuedKey> {
        let end = expires_in.map(|time| SystemTime::now() + time);
        let request = IssueKeyRequest {
            tenant_id: tenant.to_owned(),
            name: name.to_owned(),
            scopes: scopes.to_vec(),
            expires_at: end.map(Into::into),
            ..Default::default()
        };
        let issued = retry_until_ready(|| {
            let (mut admin, request) = (self.admin.clone(), request.clone());
            async move { admin.issue_key(request).await }
        })
        .await?
        .into_inner();
        let key_id = issued.key.context("the response has no key description")?.key_id;
        Ok(IssuedKey { plaintext: issued.plaintext, key_id })
    }

    /// Revokes a key.
    ///
    /// # Errors
    /// Fails if the service rejects it.
    pub async fn revoke_key(&mut self, key_id: &str) -> anyhow::Result<()> {
        let request = RevokeKeyRequest { key_id: key_id.to_owned(), reason: "a case".to_owned() };
        self.admin.revoke_key(request).await?;
        Ok(())
    }

    /// Pauses or resumes a key.
    ///
    /// # Errors
    /// Fails if the service rejects it.
    pub async fn set_key_enabled(&mut self, key_id: &str, enabled: bool) -> anyhow::Result<()> {
        let update_mask = Some(FieldMask { paths: vec!["enabled".to_owned()] });
        let request =
            UpdateKeyRequest { key_id: key_id.to_owned(), update_mask, enabled, ..Default::default() };
        self.admin.update_key(request).await?;
        Ok(())
    }

    /// Sets all scopes of a key.
    ///
    /// # Errors
    /// Fails if the service rejects it.
    pub async fn set_key_scopes(&mut self, key_id: &str, scopes: &[String]) -> anyhow::Result<()> {
        let update_mask = Some(FieldMask { paths: vec!["scopes".to_owned()] });
        let scopes = scopes.to_vec();
        let request =
            UpdateKeyRequest { key_id: key_id.to_owned(), update_mask, scopes, ..Default::default() };
        self.admin.update_key(request).await?;
        Ok(())
    }

    /// Sets all networks from which a key may be used.
    ///
    /// # Errors
    /// Fails if the service rejects it.
    pub async fn set_key_networks(&mut self, key_id: &str, networks: &[String]) -> anyhow::Result<()> {
        let request = UpdateKeyRequest {
            key_id: key_id.to_owned(),
            update_mask: Some(FieldMask { paths: vec!["allowed_networks".to_owned()] }),
            allowed_networks: networks.to_vec(),
            ..Default::default()
        };
        self.admin.update_key(request).await?;
        Ok(())
    }

    /// Sets the plan of a tenant.
    ///
    /// # Errors
    /// Fails if the service rejects it.
    pub async fn set_plan(&mut self, tenant: &str, plan: &str) -> anyhow::Result<()> {
        let request = UpdateTenantRequest {
            tenant_id: tenant.to_owned(),
            update_mask: Some(FieldMask { paths: vec!["plan".to_owned()] }),
            plan: plan.to_owned(),
            ..Default::default()
        };
        self.admin.update_tenant(request).await?;
        Ok(())
    }

    /// Unbinds a session of a tenant.
    ///
    /// # Errors
    /// Fails if the service rejects it.
    pub async fn unbind_session(&mut self, session: &str, tenant: &str) -> anyhow::Result<()> {
        let request = UnbindSessionRequest {
            session_id: session.to_owned(),
            tenant_id: tenant.to_owned(),
            reason: String::new(),
        };
        self.sessions.unbind_session(request).await?;
        Ok(())
    }

    /// Suspends a tenant.
    ///
    /// # Errors
    /// Fails if the service rejects it.
    pub async fn suspend_tenant(&mut self, tenant: &str) -> anyhow::Result<()> {
        let request = SuspendTenantRequest { tenant_id: tenant.to_owned(), reason: "a case".to_owned() };
        self.admin.suspend_tenant(request).await?;
        Ok(())
    }

    /// Lifts the suspension of a tenant.
    ///
    /// # Errors
    /// Fails if the service rejects it.
    pub async fn resume_tenant(&mut self, tenant: &str) -> anyhow::Result<()> {
        self.admin
            .resume_tenant(ResumeTenantRequest { tenant_id: tenant.to_owned(), ..Default::default() })
            .await?;
        Ok(())
    }
}

/// Repeats a request until it is answered, because a service that was just started may not be ready. It
/// creates its schema in steps: the tenants table may exist before the keys table.
async fn retry_until_ready<T, F: Future<Output = Result<T, Status>>>(
    ask: impl Fn() -> F,
) -> anyhow::Result<T> {
    let retries = async {
        let mut turns = interval(Duration::from_millis(20));
        loop {
            turns.tick().await;
            match ask().await {
                Err(status) if status.code() == Code::Unavailable => {}
                other => return other,
            }
        }
    };
    Ok(timeout(WAIT_TIMEOUT, retries).await.context("the service did not become ready")??)
}
