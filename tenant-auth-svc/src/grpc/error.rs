//! Everything that can keep an RPC from being answered.

mod malformed;

use thiserror::Error;

pub use self::malformed::MalformedRequest;
use super::permits::LimitReached;
use crate::domain::{
    admin::AdminError, recovery::RecoveryError, sessions::SessionError, store::StoreError, usage::UsageError,
    watch::WatchError,
};

/// Why an RPC fails. [`status`](super::status) turns it into what travels.
#[derive(Debug, Error)]
pub enum ApiError {
    /// It is no call that can be read.
    #[error(transparent)]
    Malformed(#[from] MalformedRequest),
    /// The request breaks the contract; each field and what is wrong with it.
    #[error("the request is invalid")]
    Invalid(Vec<Violation>),
    /// It cannot be decided: the database gave no answer.
    #[error(transparent)]
    Undecidable(#[from] StoreError),
    /// A change was not made.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The database was not accepted as it is.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// A session was not bound, ended or listed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// There is nothing to subscribe to, or no longer.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// Usage was not recorded or told.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// There is no place for it: as many requests as may be are in work.
    #[error(transparent)]
    Overloaded(#[from] LimitReached),
    /// The caller's deadline had passed before the work began.
    #[error("the deadline had passed before the work began, so nothing was asked or changed")]
    DeadlinePassed,
    /// The work had begun, and was not done when its time was over.
    #[error("there was no answer in time; a change that was asked for may have been made or not")]
    DeadlineReached,
    /// Nobody knows who calls.
    #[error("callers need a known token (authorization: Bearer ...) or certificate")]
    UnknownCaller,
    /// The caller has not the role for it.
    #[error("the caller {caller} may not do this: it needs one of the roles {needs}")]
    RoleMissing {
        /// Its name.
        caller: String,
        /// What it would have to be.
        needs: String,
    },
    /// There is no such RPC, or no rule who may call it.
    #[error("there is no such RPC, or nobody may call it")]
    NoSuchRpc,
    /// A defect: a request made the code panic.
    #[error("the request met a defect")]
    Panicked,
}

/// A field and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field, as a path in the request, or in the entry of it that fails alone: `required_scopes[1]`.
    pub field: String,
    /// What is wrong; completes the sentence "the field …".
    pub description: String,
}
