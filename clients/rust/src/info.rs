//! What is running.

use std::time::{Duration, SystemTime};

use tenant_auth_proto::v1;

use crate::{
    Error,
    call::{parse_duration, parse_time, required_field},
};

/// The answering process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// Semantic version of the service.
    pub version: String,
    /// Git commit it was built from; empty when built outside a checkout.
    pub commit: String,
    /// Whether tracked files differed from that commit.
    pub dirty: bool,
    /// Git branch it was built from; empty when unknown.
    pub branch: String,
    /// When it was built, or the time that `SOURCE_DATE_EPOCH` named for it; `None` when unknown.
    pub built_at: Option<SystemTime>,
    /// What it decides against.
    pub database: DatabaseKind,
    /// Highest change-log sequence number it has seen; 0 before its first read.
    pub revision: i64,
    /// The schema version it knows.
    pub schema_version: i32,
    /// Time since it started to serve.
    pub uptime: Duration,
    /// Its own clock.
    pub now: SystemTime,
}

/// Which kind of database a process decides against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DatabaseKind {
    /// A local file that belongs to the process alone.
    Embedded,
    /// A remote libSQL server, shared by all replicas.
    Remote,
    /// A number this client does not know.
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
            now: parse_time(required_field(message.now, "clock")?)?,
        })
    }
}
