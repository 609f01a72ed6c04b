//! Statements as sqld handles them: parsed, classified, rewritten, and only then executed.

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use fallible_iterator::FallibleIterator as _;
use libsql_sqlite3_parser::{
    ast::{Cmd, Stmt, TransactionType},
    lexer::sql::Parser,
};
use rusqlite::{
    Connection, Error as EngineError, StatementStatus,
    types::{Value, ValueRef},
};
use serde_json::{Value as Json, json};

/// An SQL error in its wire format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SqlError {
    pub(crate) code: String,
    pub(crate) message: String,
}

impl SqlError {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }

    pub(crate) fn to_json(&self) -> Json {
        json!({ "message": self.message, "code": self.code })
    }
}

/// A statement that may be executed.
#[derive(Debug)]
pub(crate) struct PreparedStatement {
    sql: String,
    pub(crate) is_write: bool,
    /// Whether it takes the write lock and keeps it until the transaction ends.
    pub(crate) takes_write_lock: bool,
}

/// Parses one statement. As on the real server, the executed text is the parser's output: SQL that this
/// parser does not reproduce faithfully would work on SQLite and fail there.
///
/// `now`, in Unix milliseconds, replaces the statement's current time.
pub(crate) fn prepare(sql: &str, now: Option<i64>) -> Result<PreparedStatement, SqlError> {
    let parse_error = |message: String| {
        SqlError::new("SQL_PARSE_ERROR", format!("SQL string could not be parsed: {message}"))
    };
    let mut parser = Parser::new(sql.as_bytes());
    let command = parser.next().map_err(|error| parse_error(error.to_string()))?;
    let Some(command) = command else {
        return Err(SqlError::new("SQL_NO_STATEMENT", "SQL string does not contain any statement"));
    };
    if parser.next().map_err(|error| parse_error(error.to_string()))?.is_some() {
        return Err(SqlError::new("SQL_MANY_STATEMENTS", "SQL string contains more than one statement"));
    }
    let Some(writes) = classify(&command) else {
        return Err(parse_error(format!("unsupported statement: {sql}")));
    };
    let locks = matches!(command, Cmd::Stmt(Stmt::Begin(Some(TransactionType::Immediate), _)));
    // The real server also leaves a lone CREATE TABLE as written.
    let sql = match command {
        Cmd::Stmt(Stmt::CreateTable { .. }) => sql.to_owned(),
        // Triggers and views use the engine's own clock.
        other @ Cmd::Stmt(Stmt::CreateTrigger { .. } | Stmt::CreateView { .. }) => other.to_string(),
        other => with_clock(other.to_string(), now),
    };
    Ok(PreparedStatement { sql, is_write: writes, takes_write_lock: locks })
}

/// Replaces the engine's clock in a statement with a given time.
fn with_clock(sql: String, now: Option<i64>) -> String {
    let Some(now) = now else { return sql };
    let (seconds, millis) = (now.div_euclid(1_000), now.rem_euclid(1_000));
    sql.replace("'now'", &format!("{seconds}.{millis:03}, 'unixepoch'"))
}

/// Returns whether a statement writes; `None` if it may not be executed at all.
fn classify(command: &Cmd) -> Option<bool> {
    match command {
        Cmd::Stmt(statement) => match statement {
            Stmt::Begin(..) | Stmt::Commit(..) | Stmt::Select(..) | Stmt::Rollback { .. } => Some(false),
            Stmt::CreateTable { temporary, .. }
            | Stmt::CreateTrigger { temporary, .. }
            | Stmt::CreateView { temporary, .. } => (!temporary).then_some(true),
            Stmt::Insert { .. }
            | Stmt::Update { .. }
            | Stmt::Delete { .. }
            | Stmt::CreateIndex { .. }
            | Stmt::AlterTable(..)
            | Stmt::DropTable { .. }
            | Stmt::DropIndex { .. }
            | Stmt::DropTrigger { .. }
            | Stmt::DropView { .. } => Some(true),
            // PRAGMA, ATTACH, VACUUM and savepoints: sqld allows some of them, but the service should need
            // none.
            _ => None,
        },
        Cmd::Explain(_) | Cmd::ExplainQueryPlan(_) => Some(false),
    }
}

/// The result of a statement.
#[derive(Debug)]
pub(crate) struct Executed {
    /// In the wire format.
    pub(crate) result: Json,
    pub(crate) rows_read: u64,
    pub(crate) rows_written: u64,
}

/// Runs a statement.
pub(crate) fn run(
    connection: &Connection,
    statement: &PreparedStatement,
    args: Vec<Value>,
    want_rows: bool,
) -> Result<Executed, SqlError> {
    let mut prepared = connection.prepare(&statement.sql).map_err(input_error)?;
    let columns: Vec<_> = prepared
        .columns()
        .iter()
        .map(|column| json!({ "name": column.name(), "decltype": column.decl_type() }))
        .collect();
    for (index, arg) in args.into_iter().enumerate() {
        prepared.raw_bind_parameter(index + 1, arg).map_err(run_error)?;
    }
    let mut found = Vec::new();
    let mut rows = prepared.raw_query();
    while let Some(row) = rows.next().map_err(run_error)? {
        let values = (0..columns.len()).map(|column| row.get_ref(column).map(encode_value));
        found.push(Json::Array(values.collect::<Result<_, _>>().map_err(run_error)?));
    }
    drop(rows);
    let status = |status| u64::try_from(prepared.get_status(status)).unwrap_or_default();
    let (rows_read, rows_written) = (status(StatementStatus::RowsRead), status(StatementStatus::RowsWritten));
    let affected = if statement.is_write { connection.changes() } else { 0 };
    let result = json!({
        "cols": columns,
        "rows": if want_rows { found } else { Vec::new() },
        "affected_row_count": affected,
        "last_insert_rowid": connection.last_insert_rowid().to_string(),
        "rows_read": rows_read,
        "rows_written": rows_written,
        "query_duration_ms": 0.1,
    });
    Ok(Executed { result, rows_read, rows_written })
}

/// An error while preparing: the real server distinguishes it from errors during execution.
fn input_error(error: EngineError) -> SqlError {
    match error {
        EngineError::SqlInputError { msg, offset, .. } => {
            SqlError::new("SQL_INPUT_ERROR", format!("SQL input error: {msg} (at offset {offset})"))
        }
        other => run_error(other),
    }
}

fn run_error(error: EngineError) -> SqlError {
    match error {
        EngineError::SqliteFailure(failure, message) => {
            let code = match failure.extended_code & 0xff {
                5 => "SQLITE_BUSY",
                6 => "SQLITE_LOCKED",
                8 => "SQLITE_READONLY",
                11 => "SQLITE_CORRUPT",
                13 => "SQLITE_FULL",
                19 => "SQLITE_CONSTRAINT",
                20 => "SQLITE_MISMATCH",
                _ => "SQLITE_UNKNOWN",
            };
            let message = message.unwrap_or_else(|| failure.to_string());
            SqlError::new(code, format!("SQLite error: {message}"))
        }
        other => SqlError::new("SQLITE_UNKNOWN", other.to_string()),
    }
}

/// Encodes a value of the engine. Integers are encoded as text.
fn encode_value(value: ValueRef<'_>) -> Json {
    match value {
        ValueRef::Null => json!({ "type": "null" }),
        ValueRef::Integer(integer) => json!({ "type": "integer", "value": integer.to_string() }),
        ValueRef::Real(real) => json!({ "type": "float", "value": real }),
        ValueRef::Text(text) => json!({ "type": "text", "value": String::from_utf8_lossy(text) }),
        ValueRef::Blob(bytes) => {
            json!({ "type": "blob", "base64": BASE64_STANDARD_NO_PAD.encode(bytes) })
        }
    }
}

/// Decodes a value of a request; `None` is a protocol error.
pub(crate) fn decode_value(value: &Json) -> Option<Value> {
    let text = |name: &str| value.get(name).and_then(Json::as_str);
    Some(match value.get("type")?.as_str()? {
        "null" => Value::Null,
        "integer" => Value::Integer(text("value")?.parse().ok()?),
        "float" => Value::Real(value.get("value")?.as_f64()?),
        "text" => Value::Text(text("value")?.to_owned()),
        "blob" => Value::Blob(BASE64_STANDARD_NO_PAD.decode(text("base64")?.trim_end_matches('=')).ok()?),
        _ => return None,
    })
}
