//! What goes wrong between the service and its database.

use std::time::Duration;

use thiserror::Error;

use super::Operation;

/// What went wrong between the service and its database: the kind decides what happens next, never the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// No connection, or one that broke.
    Unreachable,
    /// No answer in time.
    TimedOut,
    /// The database asks for fewer calls.
    Throttled,
    /// The database is locked by somebody else for the moment.
    Busy,
    /// The database refuses our credentials.
    Denied,
    /// The database refuses what it is asked for another reason than credentials: a quota of its plan, or it was suspended. It may
    /// refuse writes and answer reads.
    Blocked,
    /// The credentials, or the database, may be read and not written.
    ReadOnly,
    /// The database has no room for what is to be written.
    DiskFull,
    /// The answer makes no sense: not the protocol, cut short, or rows that cannot be.
    InvalidResponse,
    /// The database lacks a table or namespace that we need: not migrated, or the wrong one.
    SchemaMissing,
    /// It was not asked, because it has not answered for a while: the breaker is open.
    CircuitOpen,
    /// Too many calls of ours are waiting already.
    Overloaded,
    /// A rule of the schema forbids it.
    Conflict,
    /// Anything else: a defect on one of the two sides.
    Internal,
    /// It is not the database that this replica knows: another one, an emptied one, one that was rolled back.
    Untrusted,
    /// The copy of the database that answered is older than what is known.
    Lagging,
    /// Live keys are stored under a pepper that this replica lacks, so that what it does not find may be there.
    PepperMissing,
    /// No answer in time, and this process had no CPU to hear it with: that says nothing about the database.
    Starved,
    /// It was not asked, because too much was asked about that nobody has seen.
    TooManyGuesses,
}

impl FailureKind {
    /// Every kind, in order.
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
        Self::TooManyGuesses,
    ];

    /// As logs, metrics and error details write it.
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
            Self::TooManyGuesses => "too_many_guesses",
        }
    }

    /// What such a failure says about the database: that it answers all the same, that it does not, or (`None`)
    /// nothing, because it was not asked.
    #[must_use]
    pub fn database_responds(self) -> Option<bool> {
        match self {
            Self::Conflict | Self::PepperMissing => Some(true),
            Self::CircuitOpen
            | Self::Overloaded
            | Self::Untrusted
            | Self::Lagging
            | Self::Starved
            | Self::TooManyGuesses => None,
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

    /// What such a failure is about, of a call that was a read or a write. A read that is answered by the primary needs the permission
    /// to write: that it lacks it says nothing about reads.
    #[must_use]
    pub fn affected_operation(self, asked: Operation) -> Operation {
        if self == Self::ReadOnly { Operation::Write } else { asked }
    }

    /// The cause, for an operator, where the kind alone tells it.
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
            Self::SchemaMissing => Some("the database lacks a table, or is not there at all"),
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
            | Self::TooManyGuesses => None,
        }
    }

    /// Whether the same call may well succeed a moment later.
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
            | Self::TooManyGuesses => false,
        }
    }
}

/// The database gave no answer. It says nothing about the key, the tenant, or whatever was asked for.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the database is {}: {message}", kind.as_str())]
pub struct StoreError {
    /// What went wrong.
    pub kind: FailureKind,
    /// For the log; holds no secret and is not shown to callers.
    pub message: String,
    /// When the database asked to be called again.
    pub retry_after: Option<Duration>,
}

impl StoreError {
    /// An error without a wish for the next call.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }
}

/// A record that is there, and that the types refuse: somebody wrote it past them. The database has answered.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct UnreadableRecord(
    /// What cannot be read; neither a secret nor what is stored.
    pub String,
);

impl From<UnreadableRecord> for StoreError {
    fn from(UnreadableRecord(message): UnreadableRecord) -> Self {
        Self::new(FailureKind::InvalidResponse, message)
    }
}
