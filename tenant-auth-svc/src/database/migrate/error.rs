//! Why the schema is unusable, and what to do about it.

use thiserror::Error;

use super::KNOWN_VERSION;
use crate::domain::store::{FailureKind, StoreError};

/// Why the schema is unusable.
#[derive(Debug, Error)]
pub enum SchemaError {
    /// A newer build has migrated it.
    #[error(
        "the database has schema version {found}, this build knows {KNOWN_VERSION}: it was migrated by a newer \
         tenant-auth; run that version, or a later one"
    )]
    Newer {
        /// The database's version.
        found: i64,
    },
    /// The database has not been migrated to this version.
    #[error(
        "the database has schema version {found}, this build needs {KNOWN_VERSION}: run `tenant-auth-svc migrate`"
    )]
    Older {
        /// The database's version.
        found: i64,
    },
    /// The primary was migrated, but a read replica does not show the migration yet.
    #[error(
        "the schema is at version {KNOWN_VERSION}, but the database's read replica still shows version {found}: it lags behind its \
         primary"
    )]
    ReadReplicaLagging {
        /// The read replica's version.
        found: i64,
    },
    /// There is no schema.
    #[error(
        "the database has no schema: if it is new, run `tenant-auth-svc migrate`, or set TENANT_AUTH_CREATE_SCHEMA=true for the \
         first start; if it is not, TENANT_AUTH_DATABASE_URL names the wrong database, or the database was emptied"
    )]
    Empty,
    /// A migration was edited after it was applied.
    #[error("migration {version} was applied with a different text: a released migration must not be edited")]
    Edited {
        /// Its number.
        version: i64,
    },
    /// Live keys are stored under a pepper that is not configured, so they cannot be found.
    #[error(
        "live keys are stored under the pepper {id}, which this replica lacks: {}; without its secret, wait until they \
         have expired, or revoke them",
        remedy(id, file.as_deref())
    )]
    UnknownPepper {
        /// The pepper's id.
        id: String,
        /// The pepper file, if one is configured.
        file: Option<String>,
    },
    /// Another replica uses another secret under the same id: each would report the other's keys as unknown.
    #[error(
        "the secret of the pepper {id} in {file} differs from the one that was first used under this id: correct it, or use a \
         new id for a new secret"
    )]
    PepperDiffers {
        /// The pepper's id.
        id: String,
        /// The pepper file.
        file: String,
    },
    /// The database did not respond, or rejected the call.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SchemaError {
    /// The kind as a constant, which contains no data.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Newer { .. } => "schema_newer",
            Self::Older { .. } => "schema_older",
            Self::ReadReplicaLagging { .. } => "schema_not_shown_yet",
            Self::Empty => "schema_missing",
            Self::Edited { .. } => "schema_edited",
            Self::UnknownPepper { .. } => "pepper_missing",
            Self::PepperDiffers { .. } => "pepper_differs",
            Self::Store(error) => error.kind.as_str(),
        }
    }

    /// Whether waiting may help; otherwise an operator has to act.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.kind != FailureKind::Internal,
            // The schema may be created soon, and a database that was emptied by mistake may be restored.
            Self::Empty | Self::ReadReplicaLagging { .. } => true,
            Self::Newer { .. }
            | Self::Older { .. }
            | Self::Edited { .. }
            | Self::UnknownPepper { .. }
            | Self::PepperDiffers { .. } => false,
        }
    }
}

/// What to do about a missing pepper.
fn remedy(id: &str, file: Option<&str>) -> String {
    match file {
        Some(file) => format!("add the line `accept {id} <secret>` to {file} (TENANT_AUTH_PEPPER_FILE)"),
        None => format!(
            "set TENANT_AUTH_PEPPER_FILE to a file with the lines `issue none` and `accept {id} <secret>`"
        ),
    }
}
