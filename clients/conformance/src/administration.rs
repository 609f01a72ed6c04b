//! What an operator does: past the proxy, so that it is not counted.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use tenant_auth_proto::v1::{
    CreateTenantRequest, IssueKeyRequest, ResumeTenantRequest, RevokeKeyRequest, SuspendTenantRequest,
    UnbindSessionRequest, WatchRequest, WatchResponse, admin_service_client::AdminServiceClient,
    session_service_client::SessionServiceClient, watch_response::Event,
    watch_service_client::WatchServiceClient,
};
use tokio::time::{interval, timeout};
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};

use crate::WAIT_TIMEOUT;

/// A key that was issued.
#[derive(Clone, Debug)]
pub struct IssuedKey {
    /// What the customer presents.
    pub plaintext: String,
    /// Its id.
    pub key_id: String,
}

/// An operator's connection.
#[derive(Clone, Debug)]
pub struct AdminClient {
    admin: AdminServiceClient<Channel>,
    sessions: SessionServiceClient<Channel>,
    watch: WatchServiceClient<Channel>,
}

/// The news, as the service tells it. `None` from a service that follows none.
#[derive(Debug)]
pub struct InvalidationStream(Option<Streaming<WatchResponse>>);

impl InvalidationStream {
    /// Waits until the service has read of a tenant; the revision at which it has.
    ///
    /// # Errors
    /// When it does not, in good time.
    pub async fn until_tenant_seen(&mut self, tenant: &str) -> anyhow::Result<Option<i64>> {
        let Some(stream) = &mut self.0 else { return Ok(None) };
        let reading = async {
            while let Some(told) = stream.message().await? {
                if matches!(told.event, Some(Event::Invalidation(about)) if about.id == tenant) {
                    return Ok(Some(told.revision));
                }
            }
            anyhow::bail!("the news ended before that of {tenant}")
        };
        timeout(WAIT_TIMEOUT, reading).await.with_context(|| format!("no news of {tenant}"))?
    }
}

impl AdminClient {
    /// An operator of the service that listens there.
    ///
    /// # Errors
    /// When that is no address to call.
    pub fn connect(service: SocketAddr) -> anyhow::Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{service}"))?.connect_lazy();
        Ok(Self {
            admin: AdminServiceClient::new(channel.clone()),
            sessions: SessionServiceClient::new(channel.clone()),
            watch: WatchServiceClient::new(channel),
        })
    }

    /// The news from now on, of a service that has begun to follow them.
    ///
    /// # Errors
    /// When the service does not begin.
    pub async fn watch_invalidations(&mut self) -> anyhow::Result<InvalidationStream> {
        let mut stream = match self.watch.watch(WatchRequest { resume_after_revision: 0 }).await {
            Ok(stream) => stream.into_inner(),
            Err(status) if status.code() == Code::FailedPrecondition => return Ok(InvalidationStream(None)),
            Err(status) => return Err(status.into()),
        };
        // Where it begins is the first thing that it tells; then come changes, one by one.
        timeout(WAIT_TIMEOUT, stream.message()).await.context("no sign of life")??;
        Ok(InvalidationStream(Some(stream)))
    }

    /// Makes a tenant.
    ///
    /// # Errors
    /// When the service refuses it, or does not get ready.
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

    /// Makes a key of a tenant, which ends after this time.
    ///
    /// # Errors
    /// When the service refuses it, or does not get ready.
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
        };
        let issued = retry_until_ready(|| {
            let (mut admin, request) = (self.admin.clone(), request.clone());
            async move { admin.issue_key(request).await }
        })
        .await?
        .into_inner();
        let key_id = issued.key.context("a key without a description")?.key_id;
        Ok(IssuedKey { plaintext: issued.plaintext, key_id })
    }

    /// Withdraws a key.
    ///
    /// # Errors
    /// When the service does not.
    pub async fn revoke_key(&mut self, key_id: &str) -> anyhow::Result<()> {
        let request = RevokeKeyRequest { key_id: key_id.to_owned(), reason: "a case".to_owned() };
        self.admin.revoke_key(request).await?;
        Ok(())
    }

    /// Ends a session of a tenant.
    ///
    /// # Errors
    /// When the service does not.
    pub async fn unbind_session(&mut self, session: &str, tenant: &str) -> anyhow::Result<()> {
        let request = UnbindSessionRequest { session_id: session.to_owned(), tenant_id: tenant.to_owned() };
        self.sessions.unbind_session(request).await?;
        Ok(())
    }

    /// Suspends a tenant.
    ///
    /// # Errors
    /// When the service does not.
    pub async fn suspend_tenant(&mut self, tenant: &str) -> anyhow::Result<()> {
        let request = SuspendTenantRequest { tenant_id: tenant.to_owned(), reason: "a case".to_owned() };
        self.admin.suspend_tenant(request).await?;
        Ok(())
    }

    /// Ends that.
    ///
    /// # Errors
    /// When the service does not.
    pub async fn resume_tenant(&mut self, tenant: &str) -> anyhow::Result<()> {
        self.admin.resume_tenant(ResumeTenantRequest { tenant_id: tenant.to_owned() }).await?;
        Ok(())
    }
}

/// Asks until there is an answer: a service that has just been started is given the time to get ready. It makes its schema in
/// steps, and between two of them there may be tenants already and no keys yet.
async fn retry_until_ready<T, F: Future<Output = Result<T, Status>>>(
    ask: impl Fn() -> F,
) -> anyhow::Result<T> {
    let asking = async {
        let mut turns = interval(Duration::from_millis(20));
        loop {
            turns.tick().await;
            match ask().await {
                Err(status) if status.code() == Code::Unavailable => {}
                other => return other,
            }
        }
    };
    Ok(timeout(WAIT_TIMEOUT, asking).await.context("the service does not get ready")??)
}
