//! What an operator does: past the proxy, so that it is not counted.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use tenant_auth_proto::v1::{
    CreateTenantRequest, IssueKeyRequest, ResumeTenantRequest, RevokeKeyRequest, SuspendTenantRequest,
    admin_service_client::AdminServiceClient,
};
use tokio::time::{interval, timeout};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use crate::{PATIENCE, case};

/// A key that was issued.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    pub(crate) plaintext: String,
    pub(crate) key_id: String,
}

/// An operator's connection.
#[derive(Clone, Debug)]
pub(crate) struct Administration(AdminServiceClient<Channel>);

impl Administration {
    pub(crate) fn of(service: SocketAddr) -> anyhow::Result<Self> {
        let channel = Endpoint::from_shared(format!("http://{service}"))?.connect_lazy();
        Ok(Self(AdminServiceClient::new(channel)))
    }

    /// Makes a tenant. A service that has just been started is given the time to get ready.
    pub(crate) async fn create(&mut self, tenant: &str) -> anyhow::Result<()> {
        let request = CreateTenantRequest {
            tenant_id: tenant.to_owned(),
            name: tenant.to_owned(),
            plan: "pro".to_owned(),
        };
        let creating = async {
            let mut turns = interval(Duration::from_millis(20));
            loop {
                turns.tick().await;
                match self.0.create_tenant(request.clone()).await {
                    Err(status) if status.code() == Code::Unavailable => {}
                    other => return other,
                }
            }
        };
        timeout(PATIENCE, creating).await.context("the service does not get ready")??;
        Ok(())
    }

    pub(crate) async fn issue(&mut self, name: &str, key: &case::Key) -> anyhow::Result<Issued> {
        let end = key.expires_in_ms.map(|millis| SystemTime::now() + Duration::from_millis(millis));
        let request = IssueKeyRequest {
            tenant_id: key.tenant.clone(),
            name: name.to_owned(),
            scopes: key.scopes.clone(),
            expires_at: end.map(Into::into),
        };
        let issued = self.0.issue_key(request).await?.into_inner();
        let key_id = issued.key.context("a key without a description")?.key_id;
        Ok(Issued { plaintext: issued.plaintext, key_id })
    }

    pub(crate) async fn revoke(&mut self, key_id: &str) -> anyhow::Result<()> {
        let request = RevokeKeyRequest { key_id: key_id.to_owned(), reason: "a case".to_owned() };
        self.0.revoke_key(request).await?;
        Ok(())
    }

    pub(crate) async fn suspend(&mut self, tenant: &str) -> anyhow::Result<()> {
        let request = SuspendTenantRequest { tenant_id: tenant.to_owned(), reason: "a case".to_owned() };
        self.0.suspend_tenant(request).await?;
        Ok(())
    }

    pub(crate) async fn resume(&mut self, tenant: &str) -> anyhow::Result<()> {
        self.0.resume_tenant(ResumeTenantRequest { tenant_id: tenant.to_owned() }).await?;
        Ok(())
    }
}
