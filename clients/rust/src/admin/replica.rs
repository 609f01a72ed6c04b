//! What the replica that responds knows: its database, a key, its outage grace.

use std::sync::Arc;

use tenant_auth_proto::v1::{self, admin_service_client::AdminServiceClient};

use super::AdminClient;
use crate::{Error, call::required_field};

impl AdminClient {
    /// Returns what the answering replica (no other) has cached about one key. It reads no database and loads
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an invalid key id.
    pub async fn inspect_key(&self, key_id: &str) -> Result<v1::InspectKeyResponse, Error> {
        let request = v1::InspectKeyRequest { key_id: key_id.to_owned() };
        let send = async |transport, request| AdminServiceClient::new(transport).inspect_key(request).await;
        self.rpc.call_once(request, send).await
    }

    /// Explains the verdict that the answering replica (no other) would return on a key, from what the database and its
    /// cache hold.
    ///
    /// # Errors
    /// [`Error::NotFound`] if neither holds the key with this id. An unknown plaintext is not an error.
    pub async fn explain_key(&self, request: v1::ExplainKeyRequest) -> Result<v1::ExplainKeyResponse, Error> {
        let send = async |transport, request| AdminServiceClient::new(transport).explain_key(request).await;
        self.rpc.call_once(request, send).await
    }

    /// Returns the database that the answering replica knows, and whether the replica trusts what it reads.
    ///
    /// # Errors
    /// The errors of any call.
    pub async fn database_state(&self) -> Result<v1::GetDatabaseStateResponse, Error> {
        let request = v1::GetDatabaseStateRequest {};
        let send =
            async |transport, request| AdminServiceClient::new(transport).get_database_state(request).await;
        self.rpc.call_once(request, send).await
    }

    /// Accepts the current database for all replicas.
    ///
    /// # Errors
    /// [`Error::FailedPrecondition`] while the answering replica knows no database.
    pub async fn accept_database(&self, reason: &str) -> Result<v1::AcceptDatabaseResponse, Error> {
        let request = v1::AcceptDatabaseRequest { reason: reason.to_owned() };
        let send =
            async |transport, request| AdminServiceClient::new(transport).accept_database(request).await;
        // The accepted database may contain different data about every key and session.
        let _clearing = self.cache.as_ref().map(|handle| Arc::clone(handle.cache()).clear_on_drop());
        self.rpc.call_once(request, send).await
    }

    /// Returns how long the answering replica (no other) answers from its cache while the database is
    /// unreachable.
    ///
    /// # Errors
    /// If no replica answers.
    pub async fn outage_grace(&self) -> Result<v1::OutageGrace, Error> {
        let send =
            async |transport, request| AdminServiceClient::new(transport).get_outage_grace(request).await;
        required_field(self.rpc.call_once(v1::GetOutageGraceRequest {}, send).await?.grace, "grace")
    }

    /// Sets another grace on the answering replica (no other) for a limited time.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a value is beyond its limit.
    pub async fn set_outage_grace(
        &self,
        request: v1::SetOutageGraceRequest,
    ) -> Result<v1::SetOutageGraceResponse, Error> {
        let send =
            async |transport, request| AdminServiceClient::new(transport).set_outage_grace(request).await;
        self.rpc.call_once(request, send).await
    }

    /// Resets what [`set_outage_grace`](Self::set_outage_grace) has set on the answering replica.
    ///
    /// # Errors
    /// [`Error::Invalid`] without a reason.
    pub async fn reset_outage_grace(&self, reason: &str) -> Result<v1::ResetOutageGraceResponse, Error> {
        let request = v1::ResetOutageGraceRequest { reason: reason.to_owned() };
        let send =
            async |transport, request| AdminServiceClient::new(transport).reset_outage_grace(request).await;
        self.rpc.call_once(request, send).await
    }
}
