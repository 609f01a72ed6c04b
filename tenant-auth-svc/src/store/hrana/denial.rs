//! Whether the database refused what it was asked for the token's sake.

use crate::{
    domain::store::{FailureKind, StoreError},
    store::engine::{Outcome, Rows},
};

/// Tells whether a token was not good enough: servers say so by a status, or by the error of each statement.
pub(super) trait Denial {
    fn is_denied(&self) -> bool;
}

impl<T: Denial> Denial for Result<T, StoreError> {
    fn is_denied(&self) -> bool {
        match self {
            Ok(answer) => answer.is_denied(),
            Err(error) => error.kind == FailureKind::Denied,
        }
    }
}

impl Denial for Vec<Outcome> {
    fn is_denied(&self) -> bool {
        !self.is_empty() && self.iter().all(Denial::is_denied)
    }
}

impl Denial for Vec<Rows> {
    fn is_denied(&self) -> bool {
        false
    }
}

impl Denial for Rows {
    fn is_denied(&self) -> bool {
        false
    }
}
