//! Whether the database denied a request.

use crate::{
    database::engine::{Rows, TransactionResult},
    domain::store::{FailureKind, StoreError},
};

/// How a whole request failed: servers report it by the HTTP status, or by the error of each statement.
pub(super) trait Denial {
    /// Whether all of it failed with kinds for which `holds` is true.
    fn is_failed_with(&self, holds: fn(FailureKind) -> bool) -> bool;

    /// Whether it was denied because of the token, so that another token may work.
    fn is_denied(&self) -> bool {
        self.is_failed_with(|kind| matches!(kind, FailureKind::Denied | FailureKind::ReadOnly))
    }

    /// Whether it was refused for any reason, so that it does not prove that the token works.
    fn is_refused(&self) -> bool {
        self.is_failed_with(|kind| {
            matches!(kind, FailureKind::Denied | FailureKind::ReadOnly | FailureKind::Blocked)
        })
    }
}

impl<T: Denial> Denial for Result<T, StoreError> {
    fn is_failed_with(&self, holds: fn(FailureKind) -> bool) -> bool {
        match self {
            Ok(value) => value.is_failed_with(holds),
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
