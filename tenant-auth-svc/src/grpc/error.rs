//! The errors of RPCs.

mod malformed;

use thiserror::Error;

pub use self::malformed::MalformedRequest;
use super::permits::LimitReached;
use crate::domain::{
    admin::AdminError,
    limit::{LimitError, ReservationError, admin::LimitAdminError},
    recovery::RecoveryError,
    sessions::SessionError,
    store::StoreError,
    usage::UsageError,
    watch::WatchError,
};

/// The reason why an RPC fails. [`status`](super::status) converts it to a gRPC status.
#[derive(Debug, Error)]
pub enum ApiError {
    /// The request is not a readable gRPC call.
    #[error(transparent)]
    Malformed(#[from] MalformedRequest),
    /// The request violates the contract. Has each invalid field and its error.
    #[error("the request is invalid")]
    Invalid(Vec<Violation>),
    /// The key or session cannot be decided: the database gave no answer.
    #[error(transparent)]
    Undecidable(#[from] StoreError),
    /// An administrative change failed.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A limit was not changed or read.
    #[error(transparent)]
    LimitAdmin(#[from] LimitAdminError),
    /// Nothing was taken from a limit.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A reservation was not ended.
    #[error(transparent)]
    Reservation(#[from] ReservationError),
    /// The new database was not accepted.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// A session was not bound, unbound or listed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// `Watch` is not available or has ended.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// Usage was not recorded or read.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// A limit of concurrent requests, streams or bytes is reached.
    #[error(transparent)]
    Overloaded(#[from] LimitReached),
    /// The caller's deadline had expired before the work started.
    #[error(
        "the deadline expired before the work started: no database call was made and nothing was changed"
    )]
    DeadlineExpired,
    /// The work had started and did not finish in time.
    #[error("the request timed out: a requested change may or may not have been made")]
    RequestTimedOut,
    /// The caller is unknown.
    #[error("unknown caller: send a known token (authorization: Bearer ...) or client certificate")]
    UnknownCaller,
    /// The caller lacks the role for this RPC.
    #[error("caller {caller} lacks the role for this RPC: it needs one of the roles {needs}")]
    RoleMissing {
        /// The caller's name.
        caller: String,
        /// The roles of which the caller needs one.
        needs: String,
    },
    /// The RPC does not exist, or has no access rule.
    #[error("unknown RPC, or an RPC without an access rule")]
    UnknownRpc,
    /// A handler panicked: a defect of the service.
    #[error("internal error")]
    Panicked,
}

/// An invalid field and its error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field in the request, or in the batch entry that fails alone: `required_scopes[1]`.
    pub field: String,
    /// The error; it completes the sentence "the field …".
    pub description: String,
}
