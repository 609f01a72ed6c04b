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

/// How many rows a statement of a [filtered listing](filtered_listing_sql) reads, if a page of them was not enough.
const SCANNED_ROWS: usize = 1_000;
/// How many statements one page of a filtered listing takes at most.
const MAX_SCANS: usize = 5;

/// A listing, after one row of NULLs.
///
/// Nothing is joined or sorted around `from`: each of its rows would be read again, and every read is billed.
pub(super) fn listing_sql(columns: &str, from: &str) -> String {
    let width = columns.split(", ").count();
    after_nulls(width, &format!("SELECT {columns} {from}"))
}

/// A listing with a condition that no index covers: rows that do not match are read too. The last column tells whether a row matches; a row that does not has its `position` only.
pub(super) fn filtered_listing_sql(columns: &str, position: &[&str], condition: &str, from: &str) -> String {
    let shown: Vec<_> = columns
        .split(", ")
        .map(|column| match position.contains(&column) {
            true => column.to_owned(),
            false => format!("iif(matches, {column}, NULL)"),
        })
        .collect();
    let rows = format!("SELECT {columns}, ({condition}) AS matches {from}");
    after_nulls(shown.len() + 1, &format!("SELECT {}, matches FROM ({rows})", shown.join(", ")))
}

fn after_nulls(width: usize, rows: &str) -> String {
    format!("SELECT {} UNION ALL SELECT * FROM ({rows})", vec!["NULL"; width].join(", "))
}

/// Returns the rows of a listing.
///
/// # Errors
/// [`FailureKind::InvalidResponse`] when the row before them is missing.
pub(super) fn listing_rows(rows: &[Row]) -> Result<&[Row], StoreError> {
    match rows {
        [first, rows @ ..] if is_all_null(first) => Ok(rows),
        _ => Err(StoreError::new(FailureKind::InvalidResponse, "a listing returned no rows")),
    }
}

/// One more row than the page, to detect whether there is a next page.
pub(super) fn lookahead_limit(size: PageSize) -> i64 {
    sql_limit(size.get()).saturating_add(1)
}

/// A number of rows as an argument.
pub(super) fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A stored value that is invalid. The value stays out of the message: it may be confidential.
pub(super) fn unreadable_value(what: &str) -> StoreError {
    StoreError::new(FailureKind::InvalidResponse, format!("invalid {what}"))
}

/// Which rows of a listing are its records.
pub(super) enum Records<Raw, Cursor> {
    /// All.
    All,
    /// Those that match, of a [filtered listing](filtered_listing_sql). The function returns the cursor after a row that is
    /// not shown; `None` if its stored position is unreadable.
    Matching(fn(&Raw) -> Option<Cursor>),
}

/// How to decode the rows of a listing.
pub(super) struct ListingReader<Raw, Item, Cursor> {
    /// The table of the rows.
    pub(super) table: RecordTable,
    /// The column with the id of a row for the log.
    pub(super) id_column: usize,
    /// Which rows are records.
    pub(super) records: Records<Raw, Cursor>,
    /// Reads the position of a row in the order of the listing, as stored.
    pub(super) read_position: fn(&Row) -> Result<Raw, StoreError>,
    /// Reads the record.
    pub(super) read_record: fn(&Row) -> Result<Item, StoreError>,
    /// Returns the cursor after a record.
    pub(super) cursor_of: fn(&Item) -> Cursor,
}

impl<Raw, Item, Cursor> ListingReader<Raw, Item, Cursor> {
    /// Reads a page after a position; `statement` returns the listing after a position, with a limit.
    ///
    /// Unreadable records are skipped; if a page has no other records, the next one is read at once. A page of a
    /// filtered listing ends after [`MAX_SCANS`] statements: it may have few records, or none, although more follow.
    pub(super) async fn read_page<E: Engine>(
        self,
        (engine, unreadable, call): (&E, &UnreadableRecords, Call),
        size: PageSize,
        mut after: Raw,
        statement: impl Fn(&Raw, i64) -> Statement,
    ) -> Result<Page<Item, Cursor>, StoreError> {
        let (mut items, mut scans) = (Vec::new(), 0);
        // One more row than the page, to detect whether there is a next page.
        let mut limit = size.get() + 1;
        loop {
            scans += 1;
            let rows = engine.query(call, statement(&after, sql_limit(limit))).await?;
            let rows = listing_rows(&rows)?;
            for row in rows {
                if let (Some(item), true) = (items.last(), items.len() == size.get()) {
                    return Ok(Page { next: Some((self.cursor_of)(item)), items });
                }
                if self.is_record(row) {
                    let record = (self.read_record)(row);
                    items.extend(unreadable.check(self.table, (row, self.id_column), record));
                }
            }
            let Some(last) = rows.last().filter(|_| rows.len() >= limit) else {
                return Ok(Page { items, next: None });
            };
            after = (self.read_position)(last)?;
            let next = match (&self.records, items.last()) {
                (Records::All, item) => item.map(self.cursor_of),
                (Records::Matching(_), Some(item)) if items.len() == size.get() => {
                    Some((self.cursor_of)(item))
                }
                (Records::Matching(cursor_at), _) if scans >= MAX_SCANS => cursor_at(&after),
                (Records::Matching(_), _) => None,
            };
            if next.is_some() {
                return Ok(Page { items, next });
            }
            if let Records::Matching(_) = self.records {
                limit = SCANNED_ROWS;
            }
        }
    }

    fn is_record(&self, row: &Row) -> bool {
        match self.records {
            Records::All => true,
            Records::Matching(_) => row.0.last() == Some(&SqlValue::Integer(1)),
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
        assert_eq!(
            listing_rows(std::slice::from_ref(&present)).unwrap_err().kind,
            FailureKind::InvalidResponse
        );
        assert_eq!(listing_rows(&[absent.clone()]), Ok(&[][..]));
        assert_eq!(listing_rows(&[absent.clone(), present.clone()]), Ok(std::slice::from_ref(&present)));
        assert_eq!(single_row(std::slice::from_ref(&present)), Ok(Some(&present)));
        assert_eq!(single_row(&[present.clone(), present]).unwrap_err().kind, FailureKind::InvalidResponse);
    }
}
