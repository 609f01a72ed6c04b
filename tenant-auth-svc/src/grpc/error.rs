//! Everything that can keep an RPC from being answered.

use thiserror::Error;

use crate::domain::{admin::AdminError, store::StoreError, usage::UsageError};

/// Why an RPC fails. [`status`](super::status) turns it into what travels.
#[derive(Debug, Error)]
pub enum ApiError {
    /// The request breaks the contract; each field and what is wrong with it.
    #[error("the request is invalid")]
    Invalid(Vec<Violation>),
    /// It cannot be decided: the database gave no answer.
    #[error(transparent)]
    Undecidable(#[from] StoreError),
    /// A change was not made.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Usage was not recorded or told.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// The contract has it, this version does not serve it.
    #[error("{0} is not served by this version")]
    Unserved(&'static str),
    /// A defect: a request made the code panic.
    #[error("the request met a defect")]
    Panicked,
}

/// A field and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field, as a path in the request: `requests[3].key`.
    pub field: String,
    /// What is wrong; completes the sentence "the field …".
    pub description: String,
}
