//! Conversions between stored values and domain values.

use std::time::Duration;

use crate::{
    database::engine::Row,
    domain::{
        identity::DatabaseIdentity,
        page::PageSize,
        store::{FailureKind, StoreError},
    },
};

/// One more row than the page, to detect whether there is a next page.
pub(super) fn lookahead_limit(size: PageSize) -> i64 {
    i64::try_from(size.get()).unwrap_or(i64::MAX).saturating_add(1)
}

/// A stored value that is invalid. The value stays out of the message: it may be confidential.
pub(super) fn unreadable_value(what: &str) -> StoreError {
    StoreError::new(FailureKind::InvalidResponse, format!("invalid {what}"))
}

/// A duration in milliseconds, as statements take it.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Reads the identity of the database.
pub(super) fn read_identity(row: &Row, column: usize) -> Result<DatabaseIdentity, StoreError> {
    let missing = || StoreError::new(FailureKind::SchemaMissing, "the database has no identity");
    let text = row.optional_text(column)?.ok_or_else(missing)?;
    DatabaseIdentity::parse(text).ok_or_else(|| unreadable_value("identity"))
}
