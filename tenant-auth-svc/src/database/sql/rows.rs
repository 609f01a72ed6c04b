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
            if rows.len() < limit {
                return Ok(Page { items, next: None });
            }
            let is_done = matches!(self.records, Records::All) || items.len() == size.get();
            if let (Some(item), true) = (items.last(), is_done) {
                return Ok(Page { next: Some((self.cursor_of)(item)), items });
            }
            // A row with an unreadable position is read again with the next rows.
            let position = rows.iter().rev().find_map(|row| (self.read_position)(row).ok());
            after = position.ok_or_else(|| unreadable_value("position"))?;
            if let Records::Matching(cursor_at) = self.records {
                if let (Some(next), true) = (cursor_at(&after), scans >= MAX_SCANS) {
                    return Ok(Page { items, next: Some(next) });
                }
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
    use std::time::Duration;

    use futures::executor::block_on;

    use super::*;
    use crate::{
        database::engine::{Rows, Transaction, TransactionResult},
        domain::store::Lane,
    };

    /// Numbers from 1, of which every `n`-th one matches. Those in `unreadable` have a position that cannot be read.
    struct Numbers {
        end: i64,
        every: i64,
        unreadable: Vec<i64>,
    }

    impl Engine for Numbers {
        async fn query(&self, _: Call, statement: Statement) -> Result<Rows, StoreError> {
            let [SqlValue::Integer(after), SqlValue::Integer(limit)] = statement.args[..] else {
                unreachable!()
            };
            let row = |number: i64| {
                let position: SqlValue =
                    if self.unreadable.contains(&number) { "x".into() } else { number.into() };
                Row(vec![position, i64::from(number % self.every == 0).into()])
            };
            let numbers = (after + 1..=self.end).take(usize::try_from(limit).unwrap());
            Ok([Row(vec![SqlValue::Null, SqlValue::Null])].into_iter().chain(numbers.map(row)).collect())
        }

        async fn transactions(&self, _: Call, _: Vec<Transaction>) -> Vec<TransactionResult> {
            unreachable!()
        }
    }

    fn list(numbers: &Numbers, size: u16, after: i64) -> Result<Page<i64, i64>, StoreError> {
        let reader = ListingReader {
            table: RecordTable::ApiKeys,
            id_column: 0,
            records: Records::Matching(|position: &i64| Some(*position)),
            read_position: |row| row.integer(0),
            read_record: |row| row.integer(0),
            cursor_of: |number| *number,
        };
        let call = Call::within(Lane::Admin, Duration::from_secs(1));
        let unreadable = UnreadableRecords::default();
        let statement = |after: &i64, limit: i64| Statement::new("list").bind(*after).bind(limit);
        block_on(reader.read_page((numbers, &unreadable, call), PageSize::new(size), after, statement))
    }

    #[test]
    fn filtered_page_ends_after_a_limited_number_of_rows() {
        let numbers = Numbers { end: 10_000, every: 3_000, unreadable: Vec::new() };
        let page = list(&numbers, 2, 0).unwrap();
        // A page of three rows, and four times a thousand.
        assert_eq!(page, Page { items: vec![3_000], next: Some(4_003) });
        assert_eq!(list(&numbers, 2, 4_003).unwrap(), Page { items: vec![6_000], next: Some(8_006) });
        assert_eq!(list(&numbers, 2, 8_006).unwrap(), Page { items: vec![9_000], next: None });
        let dense = Numbers { every: 1, ..numbers };
        assert_eq!(list(&dense, 2, 5).unwrap(), Page { items: vec![6, 7], next: Some(7) });
    }

    #[test]
    fn unreadable_position_ends_no_list() {
        // The last row of the first statement, and the last of all.
        let numbers = Numbers { end: 8, every: 4, unreadable: vec![3, 8] };
        assert_eq!(list(&numbers, 2, 0).unwrap(), Page { items: vec![4], next: None });
    }

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
        assert_eq!(listing_rows(std::slice::from_ref(&absent)), Ok(&[][..]));
        assert_eq!(listing_rows(&[absent, present.clone()]), Ok(std::slice::from_ref(&present)));
        assert_eq!(single_row(std::slice::from_ref(&present)), Ok(Some(&present)));
        assert_eq!(single_row(&[present.clone(), present]).unwrap_err().kind, FailureKind::InvalidResponse);
    }
}
