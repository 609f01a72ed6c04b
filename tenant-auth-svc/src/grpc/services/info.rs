//! `InfoService`.

use std::{fmt, sync::Arc, time::Duration};

use tenant_auth_proto::v1::{self, info_service_server::InfoService};
use tokio::{sync::watch, time::timeout_at};
use tonic::{Request, Response, Status};

use crate::{
    domain::{clock::SharedClock, inspect::ReplicaProbe, verdict::Revision},
    grpc::{
        context::RequestContext as _,
        convert::{parse_wait_for_revision, replica_state_message},
    },
};

/// How long a call of `WaitForRevision` waits if its request does not say.
const DEFAULT_WAIT: Duration = Duration::from_secs(5);
/// How much earlier than the caller's deadline the response is sent, so that it arrives.
const RESPONSE_MARGIN: Duration = Duration::from_millis(50);

/// What the service reports about its process.
pub struct ServerInfo {
    /// The build.
    pub build: crate::build::Build,
    /// Whether the database is remote.
    pub is_remote: bool,
    /// The schema version of the build.
    pub schema_version: i32,
    /// Random id of this start of the process.
    pub instance: String,
    /// The start of the process, by the monotonic clock.
    pub started_at: Duration,
    /// The process's clock.
    pub clock: SharedClock,
    /// Returns the highest change-log position seen so far.
    pub revision: Box<dyn Fn() -> Revision + Send + Sync>,
    /// Returns the state of the replica.
    pub replica: ReplicaProbe,
    /// Returns the age of the oldest answer of the last minute.
    pub oldest_answer: Box<dyn Fn() -> Option<Duration> + Send + Sync>,
    /// The change-log position up to which all changes are applied.
    pub applied: watch::Receiver<Revision>,
    /// Returns the issuer of principal tokens, and the public keys as a JSON Web Key Set.
    pub principal_keys: Box<dyn Fn() -> (Arc<str>, Arc<str>) + Send + Sync>,
}

impl fmt::Debug for ServerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerInfo").field("build", &self.build).finish_non_exhaustive()
    }
}

impl ServerInfo {
    fn replica_state(&self) -> v1::ReplicaState {
        replica_state_message((self.replica)(), (self.oldest_answer)(), self.clock.now())
    }
}

/// `InfoService`.
#[derive(Debug)]
pub struct InfoRpc(pub ServerInfo);

#[tonic::async_trait]
impl InfoService for InfoRpc {
    async fn get_principal_keys(
        &self,
        _: Request<v1::GetPrincipalKeysRequest>,
    ) -> Result<Response<v1::GetPrincipalKeysResponse>, Status> {
        let (issuer, jwks) = (self.0.principal_keys)();
        Ok(Response::new(v1::GetPrincipalKeysResponse { jwks: jwks.to_string(), issuer: issuer.to_string() }))
    }

    async fn get_server_info(
        &self,
        _: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::GetServerInfoResponse>, Status> {
        let info = &self.0;
        let kind = match info.is_remote {
            true => v1::DatabaseKind::Remote,
            false => v1::DatabaseKind::Embedded,
        };
        let uptime = info.clock.monotonic().saturating_sub(info.started_at);
        let built_at = info.build.built_at.and_then(|seconds| i64::try_from(seconds).ok());
        Ok(Response::new(v1::GetServerInfoResponse {
            version: info.build.version.to_owned(),
            commit: info.build.commit.to_owned(),
            dirty: info.build.dirty,
            branch: info.build.branch.to_owned(),
            database_kind: kind.into(),
            revision: (info.revision)().0,
            uptime: prost_types::Duration::try_from(uptime).ok(),
            now: Some(crate::grpc::convert::timestamp(info.clock.now())),
            schema_version: info.schema_version,
            built_at: built_at.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
            replica: Some(info.replica_state()),
            instance: info.instance.clone(),
        }))
    }

    async fn wait_for_revision(
        &self,
        request: Request<v1::WaitForRevisionRequest>,
    ) -> Result<Response<v1::WaitForRevisionResponse>, Status> {
        let (revision, timeout) = parse_wait_for_revision(request.get_ref())?;
        let deadline = request.deadline(timeout.unwrap_or(DEFAULT_WAIT) + RESPONSE_MARGIN)?;
        let end = deadline.checked_sub(RESPONSE_MARGIN).unwrap_or(deadline);
        let mut applied = self.0.applied.clone();
        let reached = timeout_at(end.into(), applied.wait_for(|applied| *applied >= revision)).await;
        Ok(Response::new(v1::WaitForRevisionResponse {
            applied: matches!(reached, Ok(Ok(_))),
            replica: Some(self.0.replica_state()),
        }))
    }
}
