//! Why the schema cannot be used, and what to do about it.

use thiserror::Error;

use super::KNOWN_VERSION;
use crate::domain::store::{FailureKind, StoreError};

/// Why the schema cannot be used.
#[derive(Debug, Error)]
pub enum SchemaError {
    /// A newer build was here.
    #[error(
        "the database has schema version {found}, this build knows {KNOWN_VERSION}: it was migrated by a newer \
         tenant-auth; run that one, or a later one"
    )]
    Newer {
        /// The database's version.
        found: i64,
    },
    /// The database was never migrated this far.
    #[error(
        "the database has schema version {found}, this build needs {KNOWN_VERSION}: run `tenant-auth-svc migrate`"
    )]
    Older {
        /// The database's version.
        found: i64,
    },
    /// It was migrated, and what answers shows less of it: a copy that lags behind its primary.
    #[error(
        "the schema is at version {KNOWN_VERSION}, and the copy of the database that is read still shows version {found}: it lags behind its \
         primary"
    )]
    CopyLagging {
        /// The copy's version.
        found: i64,
    },
    /// There is no schema at all.
    #[error(
        "the database has no schema: if it should be a new one, run `tenant-auth-svc migrate`, or set \
         TENANT_AUTH_CREATE_SCHEMA=true for the first start; if it should not, TENANT_AUTH_DATABASE_URL names the wrong one, or \
         it was emptied"
    )]
    Empty,
    /// A migration was edited after it was applied.
    #[error(
        "migration {version} was applied with another text: a migration must not be edited once released"
    )]
    Edited {
        /// Its number.
        version: i64,
    },
    /// Keys are stored under a pepper that is not configured, and could not be found.
    #[error(
        "live keys are stored under the pepper {id}, which this replica lacks: {}; without it, wait until they have \
         expired, or revoke them",
        remedy(id, file.as_deref())
    )]
    UnknownPepper {
        /// The pepper's id.
        id: String,
        /// The pepper file, if one is configured.
        file: Option<String>,
    },
    /// Another replica has another secret under the same id: each would call the other's keys unknown.
    #[error(
        "the secret of the pepper {id} in {file} is not the one that was first used under this id: correct it, or give a new secret a \
         new id"
    )]
    PepperDiffers {
        /// The pepper's id.
        id: String,
        /// The pepper file.
        file: String,
    },
    /// The database gave no answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SchemaError {
    /// The kind of it, in a word that can be shown anywhere.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Newer { .. } => "schema_newer",
            Self::Older { .. } => "schema_older",
            Self::CopyLagging { .. } => "schema_not_shown_yet",
            Self::Empty => "schema_missing",
            Self::Edited { .. } => "schema_edited",
            Self::UnknownPepper { .. } => "pepper_missing",
            Self::PepperDiffers { .. } => "pepper_differs",
            Self::Store(error) => error.kind.as_str(),
        }
    }

    /// Whether waiting may help; otherwise somebody has to do something.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.kind != FailureKind::Internal,
            // Somebody may be about to make it, and a database that was emptied by mistake may come back.
            Self::Empty | Self::CopyLagging { .. } => true,
            Self::Newer { .. }
            | Self::Older { .. }
            | Self::Edited { .. }
            | Self::UnknownPepper { .. }
            | Self::PepperDiffers { .. } => false,
        }
    }
}

/// What to do about a pepper that is missing.
fn remedy(id: &str, file: Option<&str>) -> String {
    match file {
        Some(file) => format!("add the line `accept {id} <secret>` to {file} (TENANT_AUTH_PEPPER_FILE)"),
        None => format!(
            "name a file with the lines `issue none` and `accept {id} <secret>` in TENANT_AUTH_PEPPER_FILE"
        ),
    }
}
