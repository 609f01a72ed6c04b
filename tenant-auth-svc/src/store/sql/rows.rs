//! Reads that cannot be mistaken: every one gives at least one row, so that an answer without rows is a broken answer
//! and never "there is none".

use super::Row;
use crate::{
    domain::store::{FailureKind, StoreError},
    store::engine::Value,
};

/// The row of a read by id over `(SELECT 1) LEFT JOIN …`; `None` when it is all NULL.
///
/// # Errors
/// [`FailureKind::Garbled`] when there is not exactly one row.
pub(super) fn only(rows: &[Row]) -> Result<Option<&Row>, StoreError> {
    match rows {
        [row] => Ok(Some(row).filter(|row| !is_absent(row))),
        _ => Err(StoreError::new(
            FailureKind::Garbled,
            format!("expected exactly one row, got {}", rows.len()),
        )),
    }
}

/// A listing that gives one row of NULLs when there is nothing to list.
pub(super) fn listing(columns: &str, from: &str, order: &str) -> String {
    format!("SELECT {columns} FROM (SELECT 1) LEFT JOIN (SELECT {columns} {from}) ON TRUE ORDER BY {order}")
}

/// The rows of a [`listing`].
///
/// # Errors
/// [`FailureKind::Garbled`] when there is no row at all.
pub(super) fn listed(rows: &[Row]) -> Result<&[Row], StoreError> {
    match rows {
        [] => Err(StoreError::new(FailureKind::Garbled, "a listing gave no row at all")),
        [row] if is_absent(row) => Ok(&[]),
        _ => Ok(rows),
    }
}

fn is_absent(row: &Row) -> bool {
    row.0.iter().all(|value| *value == Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_is_no_answer() {
        let absent = Row(vec![Value::Null, Value::Null]);
        let present = Row(vec!["id".into(), Value::Null]);
        assert_eq!(only(&[]).unwrap_err().kind, FailureKind::Garbled);
        assert_eq!(listed(&[]).unwrap_err().kind, FailureKind::Garbled);
        assert_eq!(only(std::slice::from_ref(&absent)), Ok(None));
        assert_eq!(listed(&[absent]), Ok(&[][..]));
        assert_eq!(only(std::slice::from_ref(&present)), Ok(Some(&present)));
        assert_eq!(only(&[present.clone(), present]).unwrap_err().kind, FailureKind::Garbled);
    }
}
