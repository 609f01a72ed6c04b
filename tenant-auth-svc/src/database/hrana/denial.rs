//! Whether the database refused what it was asked for.

use crate::{
    database::engine::{Rows, TransactionResult},
    domain::store::{FailureKind, StoreError},
};

/// Tells how a whole request was refused: servers say so by a status, or by the error of each statement.
pub(super) trait Denial {
    /// Whether all of it failed in ways for which this holds.
    fn is_failed_with(&self, holds: fn(FailureKind) -> bool) -> bool;

    /// Whether it was refused for the token's sake: another one may be good enough.
    fn is_denied(&self) -> bool {
        self.is_failed_with(|kind| matches!(kind, FailureKind::Denied | FailureKind::ReadOnly))
    }

    /// Whether it was refused for any reason, so that it does not show that the token is good enough.
    fn is_refused(&self) -> bool {
        self.is_failed_with(|kind| {
            matches!(kind, FailureKind::Denied | FailureKind::ReadOnly | FailureKind::Blocked)
        })
    }
}

impl<T: Denial> Denial for Result<T, StoreError> {
    fn is_failed_with(&self, holds: fn(FailureKind) -> bool) -> bool {
        match self {
            Ok(answer) => answer.is_failed_with(holds),
            Err(error) => holds(error.kind),
        }
    }
}

impl Denial for Vec<TransactionResult> {
    fn is_failed_with(&self, holds: fn(FailureKind) -> bool) -> bool {
        !self.is_empty() && self.iter().all(|outcome| outcome.is_failed_with(holds))
    }
}

impl Denial for Vec<Rows> {
    fn is_failed_with(&self, _: fn(FailureKind) -> bool) -> bool {
        false
    }
}

impl Denial for Rows {
    fn is_failed_with(&self, _: fn(FailureKind) -> bool) -> bool {
        false
    }
}
