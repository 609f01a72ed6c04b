//! The new engine of Turso, on a file of its own.

use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;
use tenant_auth_svc::{
    database::engine::{Engine, Row, Rows, SqlValue, Statement, Transaction, TransactionResult, sql_error},
    domain::store::{Call, FailureKind, StoreError},
};
use tokio::sync::Mutex;

/// The engine; it runs one call at a time.
pub(crate) struct TursoEngine {
    connection: Mutex<turso::Connection>,
    _folder: TempDir,
}

impl TursoEngine {
    pub(crate) async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.db");
        let database = turso::Builder::new_local(path.to_str().unwrap()).build().await.unwrap();
        let connection = database.connect().unwrap();
        connection.execute("PRAGMA foreign_keys = ON", ()).await.unwrap();
        Self { connection: Mutex::new(connection), _folder: folder }
    }
}

impl Engine for TursoEngine {
    async fn query(&self, _: Call, statement: Statement) -> Result<Rows, StoreError> {
        let rows = run(&*self.connection.lock().await, &statement).await?;
        if rows.is_empty() {
            return Err(StoreError::new(FailureKind::InvalidResponse, "a read returned no rows"));
        }
        Ok(rows)
    }

    async fn transactions(&self, _: Call, transactions: Vec<Transaction>) -> Vec<TransactionResult> {
        let connection = self.connection.lock().await;
        let mut outcomes = Vec::with_capacity(transactions.len());
        for statements in transactions {
            outcomes.push(transaction(&connection, &statements).await);
        }
        outcomes
    }
}

async fn transaction(connection: &turso::Connection, statements: &[Statement]) -> TransactionResult {
    run(connection, &Statement::new("BEGIN IMMEDIATE")).await?;
    let mut results = Vec::with_capacity(statements.len());
    for statement in statements {
        match run(connection, statement).await {
            Ok(rows) => results.push(rows),
            Err(error) => {
                run(connection, &Statement::new("ROLLBACK")).await?;
                return Err(error);
            }
        }
    }
    run(connection, &Statement::new("COMMIT")).await?;
    Ok(results)
}

async fn run(connection: &turso::Connection, statement: &Statement) -> Result<Rows, StoreError> {
    let args: Vec<turso::Value> = statement.args.iter().map(to_turso).collect();
    let read = async {
        let mut rows = connection.query(&statement.sql, args).await?;
        let mut result = Vec::new();
        while let Some(row) = rows.next().await? {
            let values = (0..row.column_count()).map(|column| row.get_value(column).map(from_turso));
            result.push(Row(values.collect::<Result<_, _>>()?));
        }
        Ok(result)
    };
    read.await.map_err(|error: turso::Error| {
        let failure = store_error(&error);
        if failure.kind == FailureKind::Internal {
            StoreError::new(failure.kind, format!("{error}: {}", statement.sql))
        } else {
            failure
        }
    })
}

fn to_turso(value: &SqlValue) -> turso::Value {
    match value {
        SqlValue::Null => turso::Value::Null,
        SqlValue::Integer(integer) => turso::Value::Integer(*integer),
        SqlValue::Real(real) => turso::Value::Real(*real),
        SqlValue::Text(text) => turso::Value::Text(text.to_string()),
        SqlValue::Blob(bytes) => turso::Value::Blob(bytes.to_vec()),
    }
}

fn from_turso(value: turso::Value) -> SqlValue {
    match value {
        turso::Value::Null => SqlValue::Null,
        turso::Value::Integer(integer) => SqlValue::Integer(integer),
        turso::Value::Real(real) => SqlValue::Real(real),
        turso::Value::Text(text) => SqlValue::Text(Arc::from(text)),
        turso::Value::Blob(bytes) => SqlValue::Blob(Bytes::from(bytes)),
    }
}

fn store_error(error: &turso::Error) -> StoreError {
    let code = match error {
        turso::Error::Constraint(_) => "SQLITE_CONSTRAINT",
        turso::Error::Busy(_) | turso::Error::BusySnapshot(_) => "SQLITE_BUSY",
        turso::Error::Readonly(_) => "SQLITE_READONLY",
        turso::Error::DatabaseFull(_) => "SQLITE_FULL",
        turso::Error::Corrupt(_) => "SQLITE_CORRUPT",
        _ => "SQLITE_ERROR",
    };
    sql_error(code, &error.to_string())
}
