//! Administration of limits.

use tenant_auth_proto::v1::{self, admin_service_client::AdminServiceClient};

use super::AdminClient;
use crate::{Error, call::required_field};

impl AdminClient {
    /// Sets a limit of a plan, a tenant or a key: creates it, or replaces the one with this name. Idempotent.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the tenant or key does not exist; [`Error::Conflict`] if the request expects another version.
    pub async fn set_limit(&self, request: v1::SetLimitRequest) -> Result<v1::SetLimitResponse, Error> {
        let send = async |transport, request| AdminServiceClient::new(transport).set_limit(request).await;
        let reply = self.rpc.call_once(request, send).await?;
        required_field(reply.limit.as_ref(), "limit")?;
        Ok(reply)
    }

    /// Returns one limit.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it does not exist.
    pub async fn get_limit(&self, subject: v1::LimitSubject, name: &str) -> Result<v1::Limit, Error> {
        let request = v1::GetLimitRequest { subject: Some(subject), name: name.to_owned() };
        let send = async |transport, request| AdminServiceClient::new(transport).get_limit(request).await;
        required_field(self.rpc.call_once(request, send).await?.limit, "limit")
    }

    /// Returns one page of limits, by subject and name.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a page token of another list.
    pub async fn list_limits(&self, request: v1::ListLimitsRequest) -> Result<v1::ListLimitsResponse, Error> {
        let send = async |transport, request| AdminServiceClient::new(transport).list_limits(request).await;
        self.rpc.call_once(request, send).await
    }

    /// Deletes a limit, and what was used of it. Idempotent.
    ///
    /// # Errors
    /// If the service did not respond, or rejected a field.
    pub async fn delete_limit(
        &self,
        subject: v1::LimitSubject,
        name: &str,
    ) -> Result<v1::DeleteLimitResponse, Error> {
        let request = v1::DeleteLimitRequest { subject: Some(subject), name: name.to_owned() };
        let send = async |transport, request| AdminServiceClient::new(transport).delete_limit(request).await;
        self.rpc.call_once(request, send).await
    }

    /// Adds credits to a limit of a tenant or a key, or takes some away. Can be repeated: an adjustment id counts once.
    ///
    /// # Errors
    /// [`Error::NotFound`] if no limit of this name applies; [`Error::FailedPrecondition`] if it has no credits.
    pub async fn add_credits(&self, request: v1::AddCreditsRequest) -> Result<v1::AddCreditsResponse, Error> {
        let send = async |transport, request| AdminServiceClient::new(transport).add_credits(request).await;
        self.rpc.call_once(request, send).await
    }
}
