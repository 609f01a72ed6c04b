//! Build and status of the answering process.

use std::time::{Duration, SystemTime};

use tenant_auth_proto::v1;

use crate::{
    Error,
    call::{parse_duration, parse_time, required_field},
};

/// The build and the status of the answering process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// The semantic version of the service.
    pub version: String,
    /// The Git commit of the build; empty if it was built outside a checkout.
    pub commit: String,
    /// Whether tracked files differed from that commit.
    pub dirty: bool,
    /// The Git branch of the build; empty if unknown.
    pub branch: String,
    /// The build time, or the time in `SOURCE_DATE_EPOCH`; `None` if unknown.
    pub built_at: Option<SystemTime>,
    /// The database that it decides against.
    pub database: DatabaseKind,
    /// The highest change-log sequence number that the process has seen; 0 before its first poll.
    pub revision: i64,
    /// The schema version that the process supports.
    pub schema_version: i32,
    /// Time since the process started to serve.
    pub uptime: Duration,
    /// The current time of its clock.
    pub now: SystemTime,
    /// What it has applied, and how old its answers may be; `None` if its version is older.
    pub replica: Option<v1::ReplicaState>,
}

/// The kind of database that a process decides against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DatabaseKind {
    /// A local file that belongs to this process alone.
    Embedded,
    /// A remote libSQL server, shared by all replicas.
    Remote,
    /// A value that this client does not know.
    Unrecognized(i32),
}

impl ServerInfo {
    pub(crate) fn from_wire(message: v1::GetServerInfoResponse) -> Result<Self, Error> {
        let database = match v1::DatabaseKind::try_from(message.database_kind) {
            Ok(v1::DatabaseKind::Embedded) => DatabaseKind::Embedded,
            Ok(v1::DatabaseKind::Remote) => DatabaseKind::Remote,
            Ok(v1::DatabaseKind::Unspecified) | Err(_) => DatabaseKind::Unrecognized(message.database_kind),
        };
        Ok(Self {
            version: message.version,
            commit: message.commit,
            dirty: message.dirty,
            branch: message.branch,
            built_at: message.built_at.map(parse_time).transpose()?,
            database,
            revision: message.revision,
            schema_version: message.schema_version,
            uptime: parse_duration(message.uptime.unwrap_or_default())?,
            now: parse_time(required_field(message.now, "time")?)?,
            replica: message.replica,
        })
    }
}
