//! Reads that cannot be mistaken: every one gives at least one row, so that an answer without rows is a broken answer
//! and never "there is none".

use super::{Engine, RecordTable, Row, UnreadableRecords};
use crate::{
    database::engine::{SqlValue, Statement},
    domain::{
        page::{Page, PageSize},
        store::{Call, FailureKind, StoreError},
    },
};

/// The row of a read by id over `(SELECT 1) LEFT JOIN …`; `None` when it is all NULL.
///
/// # Errors
/// [`FailureKind::InvalidResponse`] when there is not exactly one row.
pub(super) fn single_row(rows: &[Row]) -> Result<Option<&Row>, StoreError> {
    match rows {
        [row] => Ok(Some(row).filter(|row| !is_all_null(row))),
        _ => Err(StoreError::new(
            FailureKind::InvalidResponse,
            format!("expected exactly one row, got {}", rows.len()),
        )),
    }
}

/// A listing that gives one row of NULLs when there is nothing to list.
pub(super) fn listing_sql(columns: &str, from: &str, order: &str) -> String {
    format!("SELECT {columns} FROM (SELECT 1) LEFT JOIN (SELECT {columns} {from}) ON TRUE ORDER BY {order}")
}

/// The rows of a [`listing_sql`].
///
/// # Errors
/// [`FailureKind::InvalidResponse`] when there is no row at all.
pub(super) fn listing_rows(rows: &[Row]) -> Result<&[Row], StoreError> {
    match rows {
        [] => Err(StoreError::new(FailureKind::InvalidResponse, "a listing gave no row at all")),
        [row] if is_all_null(row) => Ok(&[]),
        _ => Ok(rows),
    }
}

/// How the rows of a listing are read.
pub(super) struct ListingReader<Raw, Item, Cursor> {
    /// Where they are from.
    pub(super) table: RecordTable,
    /// The column of what a row is called in the log.
    pub(super) id_column: usize,
    /// Where a row stands in the order of the list, as stored.
    pub(super) read_position: fn(&Row) -> Result<Raw, StoreError>,
    /// The record.
    pub(super) read_record: fn(&Row) -> Result<Item, StoreError>,
    /// Where the page goes on after a record.
    pub(super) cursor_of: fn(&Item) -> Cursor,
}

impl<Raw, Item, Cursor> ListingReader<Raw, Item, Cursor> {
    /// Reads a page from after a position. Records that cannot be read are left out; where a page would hold nothing else,
    /// the next one is read at once.
    pub(super) async fn read_page<E: Engine>(
        self,
        (engine, unreadable, call): (&E, &UnreadableRecords, Call),
        size: PageSize,
        mut after: Raw,
        statement: impl Fn(&Raw) -> Statement,
    ) -> Result<Page<Item, Cursor>, StoreError> {
        loop {
            let rows = engine.query(call, statement(&after)).await?;
            let rows = listing_rows(&rows)?;
            let (here, beyond) = rows.split_at(rows.len().min(size.get()));
            let read =
                |row| unreadable.check(self.table, (row, self.id_column), (self.read_record)(row)).ok();
            let items: Vec<_> = here.iter().filter_map(read).collect();
            match (items.last(), here.last()) {
                _ if beyond.is_empty() => return Ok(Page { items, next: None }),
                (Some(item), _) => return Ok(Page { next: Some((self.cursor_of)(item)), items }),
                (None, Some(row)) => after = (self.read_position)(row)?,
                (None, None) => return Ok(Page { items, next: None }),
            }
        }
    }
}

fn is_all_null(row: &Row) -> bool {
    row.0.iter().all(|value| *value == SqlValue::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_result_is_an_error() {
        let absent = Row(vec![SqlValue::Null, SqlValue::Null]);
        let present = Row(vec!["id".into(), SqlValue::Null]);
        assert_eq!(single_row(&[]).unwrap_err().kind, FailureKind::InvalidResponse);
        assert_eq!(listing_rows(&[]).unwrap_err().kind, FailureKind::InvalidResponse);
        assert_eq!(single_row(std::slice::from_ref(&absent)), Ok(None));
        assert_eq!(listing_rows(&[absent]), Ok(&[][..]));
        assert_eq!(single_row(std::slice::from_ref(&present)), Ok(Some(&present)));
        assert_eq!(single_row(&[present.clone(), present]).unwrap_err().kind, FailureKind::InvalidResponse);
    }
}
