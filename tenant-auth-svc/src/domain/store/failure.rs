//! Failures of database calls.

use std::time::Duration;

use thiserror::Error;

use super::Operation;

/// The kind of a failed database call. It determines the reaction, independent of the database engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// No connection, or a broken one.
    Unreachable,
    /// No response in time.
    TimedOut,
    /// The database asks for fewer calls.
    Throttled,
    /// Another client holds the lock of the database.
    Busy,
    /// The database rejects our credentials.
    Denied,
    /// The database rejects the call for another reason than credentials: a quota of its plan, or because it
    /// is suspended. It may reject writes and answer reads.
    Blocked,
    /// The credentials or the database are read-only.
    ReadOnly,
    /// The database has no space for the data.
    DiskFull,
    /// The response is invalid: not the protocol, truncated, or impossible rows.
    InvalidResponse,
    /// The database lacks a table or namespace: it is not migrated, or it is the wrong one.
    SchemaMissing,
    /// The call was not sent, because the circuit breaker is open after repeated failures.
    CircuitOpen,
    /// The call was not sent, because too many of our calls are queued.
    Overloaded,
    /// A constraint of the schema forbids the change.
    Conflict,
    /// Anything else: a defect of this service or of the database.
    Internal,
    /// The database is not the known one: it is a different one, was emptied, or was rolled back.
    Untrusted,
    /// The read replica that responded is behind the known position.
    Lagging,
    /// Live keys are stored under a pepper that this replica lacks, so ids that are not found may exist.
    PepperMissing,
    /// No response in time, while this process had no CPU time to receive it: this shows nothing about the
    /// database.
    Starved,
    /// The call was not sent, because the limit of unknown lookups is reached.
    TooManyUnknownLookups,
}

impl FailureKind {
    /// All kinds, in order.
    pub const ALL: [Self; 19] = [
        Self::Unreachable,
        Self::TimedOut,
        Self::Throttled,
        Self::Busy,
        Self::Denied,
        Self::Blocked,
        Self::ReadOnly,
        Self::DiskFull,
        Self::InvalidResponse,
        Self::SchemaMissing,
        Self::CircuitOpen,
        Self::Overloaded,
        Self::Conflict,
        Self::Internal,
        Self::Untrusted,
        Self::Lagging,
        Self::PepperMissing,
        Self::Starved,
        Self::TooManyUnknownLookups,
    ];

    /// Returns the name used in logs, metrics and error details.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Throttled => "throttled",
            Self::Busy => "busy",
            Self::Denied => "denied",
            Self::Blocked => "blocked",
            Self::ReadOnly => "read_only",
            Self::DiskFull => "disk_full",
            Self::InvalidResponse => "invalid_response",
            Self::SchemaMissing => "schema_missing",
            Self::CircuitOpen => "circuit_open",
            Self::Overloaded => "overloaded",
            Self::Conflict => "conflict",
            Self::Internal => "internal",
            Self::Untrusted => "untrusted",
            Self::Lagging => "lagging",
            Self::PepperMissing => "pepper_missing",
            Self::Starved => "starved",
            Self::TooManyUnknownLookups => "too_many_unknown_lookups",
        }
    }

    /// What the failure shows: that the database responds, that it does not, or nothing (`None`), because no
    /// call was sent.
    #[must_use]
    pub fn database_responds(self) -> Option<bool> {
        match self {
            Self::Conflict | Self::PepperMissing => Some(true),
            Self::CircuitOpen
            | Self::Overloaded
            | Self::Untrusted
            | Self::Lagging
            | Self::Starved
            | Self::TooManyUnknownLookups => None,
            Self::Unreachable
            | Self::TimedOut
            | Self::Throttled
            | Self::Busy
            | Self::Denied
            | Self::Blocked
            | Self::ReadOnly
            | Self::DiskFull
            | Self::InvalidResponse
            | Self::SchemaMissing
            | Self::Internal => Some(false),
        }
    }

    /// Returns the operation that the failure affects, for a failed read or write. A read that the primary
    /// answers needs write permission: a lack of it does not affect other reads.
    #[must_use]
    pub fn affected_operation(self, operation: Operation) -> Operation {
        if self == Self::ReadOnly { Operation::Write } else { operation }
    }

    /// Returns the cause and the remedy for an operator, if the kind determines them.
    #[must_use]
    pub fn cause(self) -> Option<&'static str> {
        match self {
            Self::Denied => Some("the token is refused: replace it in TENANT_AUTH_DATABASE_TOKEN_FILE"),
            Self::Blocked => Some("the database is over a quota of its plan, or suspended: ask its provider"),
            Self::ReadOnly => {
                Some("the token, or the database, may be read only: use a token for reading and writing")
            }
            Self::DiskFull => Some("the disk of the database is full: make room on it"),
            Self::Throttled => Some("the database asks for fewer calls"),
            Self::Busy => Some("another client holds the lock of the database"),
            Self::SchemaMissing => Some("the database lacks a table, or does not exist"),
            Self::Unreachable
            | Self::TimedOut
            | Self::InvalidResponse
            | Self::CircuitOpen
            | Self::Overloaded
            | Self::Conflict
            | Self::Internal
            | Self::Untrusted
            | Self::Lagging
            | Self::PepperMissing
            | Self::Starved
            | Self::TooManyUnknownLookups => None,
        }
    }

    /// Whether the same call is likely to succeed a moment later.
    #[must_use]
    pub fn is_transient(self) -> bool {
        match self {
            Self::Unreachable | Self::TimedOut | Self::Starved | Self::Busy | Self::InvalidResponse => true,
            Self::Throttled
            | Self::Denied
            | Self::Blocked
            | Self::ReadOnly
            | Self::DiskFull
            | Self::SchemaMissing
            | Self::CircuitOpen
            | Self::Overloaded
            | Self::Conflict
            | Self::Internal
            | Self::Untrusted
            | Self::Lagging
            | Self::PepperMissing
            | Self::TooManyUnknownLookups => false,
        }
    }
}

/// A failed database call. The state of the requested key, tenant or other object is unknown.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("database failure ({}): {message}", kind.as_str())]
pub struct StoreError {
    /// The kind of failure.
    pub kind: FailureKind,
    /// For the log. It contains no secret, and is not shown to callers.
    pub message: String,
    /// When the database asked to be called again.
    pub retry_after: Option<Duration>,
}

impl StoreError {
    /// Creates an error without a retry delay.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }
}

/// A stored record that violates the rules of its type: it was written by a writer other than this service.
/// The database has responded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct UnreadableRecord(
    /// What is unreadable. It contains neither a secret nor the stored value.
    pub String,
);

impl From<UnreadableRecord> for StoreError {
    fn from(UnreadableRecord(message): UnreadableRecord) -> Self {
        Self::new(FailureKind::InvalidResponse, message)
    }
}
