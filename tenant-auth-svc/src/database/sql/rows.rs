//! Unambiguous reads: each returns at least one row, so that a response without rows is invalid and never means "not
//! found".

use super::{Engine, RecordTable, Row, UnreadableRecords};
use crate::{
    database::engine::{SqlValue, Statement},
    domain::{
        page::{Page, PageSize},
        store::{Call, FailureKind, StoreError},
    },
};

/// Returns the row of a read by id over `(SELECT 1) LEFT JOIN …`; `None` if all its values are NULL.
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

/// A listing that returns one row of NULLs when there is nothing to list.
pub(super) fn listing_sql(columns: &str, from: &str, order: &str) -> String {
    format!("SELECT {columns} FROM (SELECT 1) LEFT JOIN (SELECT {columns} {from}) ON TRUE ORDER BY {order}")
}

/// Returns the rows of a [`listing_sql`].
///
/// # Errors
/// [`FailureKind::InvalidResponse`] when there are no rows.
pub(super) fn listing_rows(rows: &[Row]) -> Result<&[Row], StoreError> {
    match rows {
        [] => Err(StoreError::new(FailureKind::InvalidResponse, "a listing returned no rows")),
        [row] if is_all_null(row) => Ok(&[]),
        _ => Ok(rows),
    }
}

/// One more row than the page, to detect whether there is a next page.
pub(super) fn lookahead_limit(size: PageSize) -> i64 {
    i64::try_from(size.get()).unwrap_or(i64::MAX).saturating_add(1)
}

/// A stored value that is invalid. The value stays out of the message: it may be confidential.
pub(super) fn unreadable_value(what: &str) -> StoreError {
    StoreError::new(FailureKind::InvalidResponse, format!("invalid {what}"))
}

/// How to decode the rows of a listing.
pub(super) struct ListingReader<Raw, Item, Cursor> {
    /// The table of the rows.
    pub(super) table: RecordTable,
    /// The column with the id of a row for the log.
    pub(super) id_column: usize,
    /// Reads the position of a row in the order of the listing, as stored.
    pub(super) read_position: fn(&Row) -> Result<Raw, StoreError>,
    /// Reads the record.
    pub(super) read_record: fn(&Row) -> Result<Item, StoreError>,
    /// Returns the cursor after a record.
    pub(super) cursor_of: fn(&Item) -> Cursor,
}

impl<Raw, Item, Cursor> ListingReader<Raw, Item, Cursor> {
    /// Reads a page after a position. Unreadable records are skipped; if a page has no other records, the next one is
    /// read at once.
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
            let (current, more) = rows.split_at(rows.len().min(size.get()));
            let read =
                |row| unreadable.check(self.table, (row, self.id_column), (self.read_record)(row)).ok();
            let items: Vec<_> = current.iter().filter_map(read).collect();
            match (items.last(), current.last()) {
                _ if more.is_empty() => return Ok(Page { items, next: None }),
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
