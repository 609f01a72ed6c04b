//! Runs statements on one connection, on the calling thread.

use std::time::Duration;

use bytes::Bytes;
use futures::executor::block_on;

use crate::{
    database::engine::{Row, Rows, SqlValue, Statement, sql_error},
    domain::store::{FailureKind, StoreError},
};

/// Timeout of a lock that a database shell holds on the file.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);

/// Opens a connection with the settings for durability and speed.
pub(super) fn connect(database: &libsql::Database) -> libsql::Result<libsql::Connection> {
    let connection = database.connect()?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    for pragma in [
        "PRAGMA journal_mode = WAL",
        // An acknowledged write survives a power cut.
        "PRAGMA synchronous = FULL",
        "PRAGMA foreign_keys = ON",
    ] {
        block_on(async { connection.query(pragma, ()).await?.next().await })?;
    }
    Ok(connection)
}

pub(super) fn query(connection: &libsql::Connection, statement: &Statement) -> Result<Rows, StoreError> {
    block_on(async {
        let args: Vec<libsql::Value> = statement.args.iter().map(to_libsql).collect();
        let mut rows = connection.query(&statement.sql, args).await?;
        let columns = rows.column_count();
        let mut result = Vec::new();
        while let Some(row) = rows.next().await? {
            let values = (0..columns).map(|column| row.get_value(column).map(from_libsql));
            result.push(Row(values.collect::<Result<_, _>>()?));
        }
        Ok(result)
    })
    .map_err(|error: libsql::Error| store_error(&error))
}

pub(super) fn transaction(
    connection: &libsql::Connection,
    statements: &[Statement],
) -> Result<Vec<Rows>, StoreError> {
    // IMMEDIATE: upgrading a read to a write could fail as busy, and waiting would not help.
    query(connection, &Statement::new("BEGIN IMMEDIATE"))?;
    let outcome = statements
        .iter()
        .map(|statement| query(connection, statement))
        .collect::<Result<Vec<_>, _>>()
        .and_then(|rows| query(connection, &Statement::new("COMMIT")).map(|_| rows));
    if outcome.is_err() && !connection.is_autocommit() {
        query(connection, &Statement::new("ROLLBACK"))?;
    }
    outcome
}

fn to_libsql(value: &SqlValue) -> libsql::Value {
    match value {
        SqlValue::Null => libsql::Value::Null,
        SqlValue::Integer(integer) => libsql::Value::Integer(*integer),
        SqlValue::Real(real) => libsql::Value::Real(*real),
        SqlValue::Text(text) => libsql::Value::Text(text.to_string()),
        SqlValue::Blob(bytes) => libsql::Value::Blob(bytes.to_vec()),
    }
}

fn from_libsql(value: libsql::Value) -> SqlValue {
    match value {
        libsql::Value::Null => SqlValue::Null,
        libsql::Value::Integer(integer) => SqlValue::Integer(integer),
        libsql::Value::Real(real) => SqlValue::Real(real),
        libsql::Value::Text(text) => SqlValue::Text(text.into()),
        libsql::Value::Blob(bytes) => SqlValue::Blob(Bytes::from(bytes)),
    }
}

fn store_error(error: &libsql::Error) -> StoreError {
    match error {
        libsql::Error::SqliteFailure(code, message) => sql_error(code_name(*code), message),
        other => StoreError::new(FailureKind::Internal, other.to_string()),
    }
}

/// Name of a result code, by its primary part. See <https://sqlite.org/rescode.html>.
fn code_name(code: i32) -> &'static str {
    match code & 0xff {
        5 => "SQLITE_BUSY",
        6 => "SQLITE_LOCKED",
        7 => "SQLITE_NOMEM",
        8 => "SQLITE_READONLY",
        9 => "SQLITE_INTERRUPT",
        10 => "SQLITE_IOERR",
        11 => "SQLITE_CORRUPT",
        13 => "SQLITE_FULL",
        19 => "SQLITE_CONSTRAINT",
        23 => "SQLITE_AUTH",
        26 => "SQLITE_NOTADB",
        _ => "SQLITE_ERROR",
    }
}
