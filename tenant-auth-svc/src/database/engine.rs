//! The interface between SQL statements and the engines that run them.
//!
//! An engine knows SQL and nothing about tenants. It has two methods, so that a decorator around the database client
//! can treat reads and writes differently, and every statement is written once for all engines.

use std::{future::Future, sync::Arc};

use bytes::Bytes;

use crate::domain::store::{Call, FailureKind, StoreError};

/// A value of a row or an argument.
#[derive(Clone, Debug, PartialEq)]
pub enum SqlValue {
    /// SQL NULL.
    Null,
    /// A 64-bit integer.
    Integer(i64),
    /// A floating-point number.
    Real(f64),
    /// UTF-8 text.
    Text(Arc<str>),
    /// Bytes.
    Blob(Bytes),
}

impl From<i64> for SqlValue {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<&str> for SqlValue {
    fn from(value: &str) -> Self {
        Self::Text(value.into())
    }
}

impl From<String> for SqlValue {
    fn from(value: String) -> Self {
        Self::Text(value.into())
    }
}

impl<T: Into<Self>> From<Option<T>> for SqlValue {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One SQL statement with its arguments, bound to `?1`, `?2`, …
#[derive(Clone, Debug)]
pub struct Statement {
    /// The text; always a single statement.
    pub sql: Arc<str>,
    /// The arguments, in order.
    pub args: Vec<SqlValue>,
    /// Whether the primary must answer a read, and not a read replica.
    pub at_primary: bool,
}

impl Statement {
    /// Creates a statement without arguments.
    pub fn new(sql: impl Into<Arc<str>>) -> Self {
        Self { sql: sql.into(), args: Vec::new(), at_primary: false }
    }

    /// Requires the primary to answer a read.
    #[must_use]
    pub fn at_primary(mut self) -> Self {
        self.at_primary = true;
        self
    }

    /// Adds the next argument.
    #[must_use]
    pub fn bind(mut self, value: impl Into<SqlValue>) -> Self {
        self.args.push(value.into());
        self
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row(pub Vec<SqlValue>);

/// The rows that a statement returned.
pub type Rows = Vec<Row>;

impl Row {
    fn value(&self, column: usize) -> Result<&SqlValue, StoreError> {
        self.0.get(column).ok_or_else(|| invalid_column(column, "a value"))
    }

    /// Returns a text.
    ///
    /// # Errors
    /// [`FailureKind::InvalidResponse`] when the column holds another type.
    pub fn text(&self, column: usize) -> Result<&str, StoreError> {
        match self.value(column)? {
            SqlValue::Text(text) => Ok(text),
            _ => Err(invalid_column(column, "text")),
        }
    }

    /// Returns a text, or `None` for NULL.
    ///
    /// # Errors
    /// [`FailureKind::InvalidResponse`] when the column holds another type.
    pub fn optional_text(&self, column: usize) -> Result<Option<&str>, StoreError> {
        match self.value(column)? {
            SqlValue::Null => Ok(None),
            _ => self.text(column).map(Some),
        }
    }

    /// Returns an integer.
    ///
    /// # Errors
    /// [`FailureKind::InvalidResponse`] when the column holds another type.
    pub fn integer(&self, column: usize) -> Result<i64, StoreError> {
        match self.value(column)? {
            SqlValue::Integer(integer) => Ok(*integer),
            _ => Err(invalid_column(column, "an integer")),
        }
    }

    /// Returns an integer, or `None` for NULL.
    ///
    /// # Errors
    /// [`FailureKind::InvalidResponse`] when the column holds another type.
    pub fn optional_integer(&self, column: usize) -> Result<Option<i64>, StoreError> {
        match self.value(column)? {
            SqlValue::Null => Ok(None),
            _ => self.integer(column).map(Some),
        }
    }
}

fn invalid_column(column: usize, expected: &str) -> StoreError {
    StoreError::new(FailureKind::InvalidResponse, format!("column {column} of a row is not {expected}"))
}

/// Runs SQL.
///
/// Both methods fail with a [`StoreError`] whose kind says what to do next. Neither waits past `call.deadline`.
pub trait Engine: Send + Sync + 'static {
    /// Runs one read-only statement. Statements are written to return at least one row, even if nothing is found: a
    /// response without rows is invalid ([`FailureKind::InvalidResponse`]).
    fn query(
        &self,
        call: Call,
        statement: Statement,
    ) -> impl Future<Output = Result<Rows, StoreError>> + Send;

    /// Runs transactions one after the other, in one call. Of the statements of one transaction all take effect, or
    /// none. Returns one result per transaction, in order; one that fails does not prevent the next from running.
    ///
    /// The statements of each transaction must be safe to repeat together: when the response to a commit is lost, it
    /// is unknown whether it happened, and a decorator may send them again.
    fn transactions(
        &self,
        call: Call,
        transactions: Vec<Transaction>,
    ) -> impl Future<Output = Vec<TransactionResult>> + Send;

    /// Runs statements as one transaction: all take effect, or none. Returns the rows of each.
    fn transaction(
        &self,
        call: Call,
        statements: Transaction,
    ) -> impl Future<Output = TransactionResult> + Send {
        async move {
            self.transactions(call, vec![statements]).await.pop().unwrap_or_else(|| {
                Err(StoreError::new(FailureKind::Internal, "a transaction ended without a result"))
            })
        }
    }
}

/// The statements of one transaction.
pub type Transaction = Vec<Statement>;
/// The result of one transaction: the rows of each of its statements.
pub type TransactionResult = Result<Vec<Rows>, StoreError>;

/// Returns the first failure among results.
pub(super) fn first_failure(outcomes: &[TransactionResult]) -> Option<&StoreError> {
    outcomes.iter().find_map(|outcome| outcome.as_ref().err())
}

impl<E: Engine> Engine for Arc<E> {
    async fn query(&self, call: Call, statement: Statement) -> Result<Rows, StoreError> {
        (**self).query(call, statement).await
    }

    async fn transactions(&self, call: Call, transactions: Vec<Transaction>) -> Vec<TransactionResult> {
        (**self).transactions(call, transactions).await
    }
}

/// Returns the rows of a read, which must not be empty: see [`Engine::query`].
///
/// # Errors
/// [`FailureKind::InvalidResponse`] when there are none.
pub(super) fn require_rows(rows: Rows) -> Result<Rows, StoreError> {
    if rows.is_empty() {
        Err(StoreError::new(FailureKind::InvalidResponse, "a read returned no rows"))
    } else {
        Ok(rows)
    }
}

/// Part of the error message of a transaction that ran in another database than the known one.
pub const WRONG_DATABASE_MARKER: &str = "not the known database: ";

/// Classifies an SQL error. The codes are SQLite's names, in the spelling of the Hrana protocol.
#[must_use]
pub fn sql_error(code: &str, message: &str) -> StoreError {
    let kind = if code.starts_with("SQLITE_CONSTRAINT") {
        FailureKind::Conflict
    } else if code.starts_with("SQLITE_BUSY")
        || code.starts_with("SQLITE_LOCKED")
        || code.starts_with("TRANSACTION_")
    {
        FailureKind::Busy
    } else if code.starts_with("SQLITE_CORRUPT") || code == "SQLITE_NOTADB" {
        FailureKind::InvalidResponse
    } else if code == "BLOCKED" {
        FailureKind::Blocked
    } else if code.starts_with("SQLITE_READONLY") {
        FailureKind::ReadOnly
    } else if code == "SQLITE_FULL" {
        FailureKind::DiskFull
    } else if code == "SQLITE_AUTH" {
        FailureKind::Denied
    } else if code.starts_with("SQLITE_IOERR") || code == "SQLITE_INTERRUPT" || code == "SQLITE_NOMEM" {
        FailureKind::Unreachable
    } else if message.contains(WRONG_DATABASE_MARKER) {
        FailureKind::Untrusted
    } else if message.contains("no such table") || message.contains("no such column") {
        FailureKind::SchemaMissing
    } else {
        FailureKind::Internal
    };
    StoreError::new(kind, format!("{code}: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_error_code_decides_failure_kind() {
        let kind = |code, message| sql_error(code, message).kind;
        assert_eq!(kind("SQLITE_CONSTRAINT_UNIQUE", ""), FailureKind::Conflict);
        assert_eq!(kind("SQLITE_BUSY", "database is locked"), FailureKind::Busy);
        assert_eq!(kind("SQLITE_LOCKED_SHAREDCACHE", ""), FailureKind::Busy);
        assert_eq!(kind("TRANSACTION_TIMEOUT", ""), FailureKind::Busy);
        assert_eq!(kind("SQLITE_CORRUPT", ""), FailureKind::InvalidResponse);
        assert_eq!(kind("BLOCKED", "reads are blocked"), FailureKind::Blocked);
        assert_eq!(kind("SQLITE_READONLY_DIRECTORY", ""), FailureKind::ReadOnly);
        assert_eq!(kind("SQLITE_FULL", ""), FailureKind::DiskFull);
        assert_eq!(kind("SQLITE_AUTH", ""), FailureKind::Denied);
        assert_eq!(kind("SQLITE_IOERR_WRITE", ""), FailureKind::Unreachable);
        assert_eq!(kind("SQL_INPUT_ERROR", "no such table: tenants"), FailureKind::SchemaMissing);
        assert_eq!(
            kind("SQLITE_UNKNOWN", "SQLite error: no such table: tenants"),
            FailureKind::SchemaMissing
        );
        assert_eq!(kind("SQLITE_ERROR", "near \"SELEC\": syntax error"), FailureKind::Internal);
        assert_eq!(kind("SQL_PARSE_ERROR", ""), FailureKind::Internal);
    }

    #[test]
    fn row_of_unexpected_shape_is_invalid_response() {
        let row = Row(vec![SqlValue::Null, SqlValue::Integer(7)]);
        assert_eq!(row.optional_text(0), Ok(None));
        assert_eq!(row.integer(1), Ok(7));
        for result in [row.text(0).map(|_| ()), row.text(1).map(|_| ()), row.integer(2).map(|_| ())] {
            assert_eq!(result.unwrap_err().kind, FailureKind::InvalidResponse);
        }
    }
}
