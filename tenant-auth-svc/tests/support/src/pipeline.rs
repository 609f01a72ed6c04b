//! One pipeline request: a stream, its requests in order, and their results.

use std::collections::HashMap;

use rusqlite::Connection;
use serde_json::{Value as Json, json};

use crate::{
    fault::Fault,
    server::ServerState,
    sql::{self, SqlError},
    streams::StreamError,
    write_lock::{Client, WriteGuard},
};

/// The response to a pipeline request.
#[derive(Debug)]
pub(crate) struct PipelineAnswer {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
}

impl PipelineAnswer {
    fn json(status: u16, body: &Json) -> Self {
        Self { status, content_type: "application/json", body: body.to_string().into_bytes() }
    }

    /// Returns a protocol error.
    fn protocol_error(message: impl Into<String>) -> Self {
        Self { status: 400, content_type: "text/plain", body: message.into().into_bytes() }
    }
}

/// Returns whether any statement of a pipeline writes or takes the write lock, whether or not it is executed.
pub(crate) fn may_change(body: &[u8]) -> bool {
    let Ok(request) = serde_json::from_slice::<Json>(body) else { return false };
    let requests = request.get("requests").and_then(Json::as_array).cloned().unwrap_or_default();
    let steps = |request: &Json| {
        request.pointer("/batch/steps").and_then(Json::as_array).cloned().unwrap_or_default()
    };
    let statements = requests.iter().flat_map(|request| {
        let mut statements: Vec<_> =
            steps(request).iter().filter_map(|step| step.get("stmt").cloned()).collect();
        statements.extend(request.get("stmt").cloned());
        statements
    });
    statements.filter_map(|statement| statement.get("sql").and_then(Json::as_str).map(str::to_owned)).any(
        |sql| sql::prepare(&sql, None).is_ok_and(|prepared| prepared.is_write || prepared.takes_write_lock),
    )
}

/// Runs a pipeline on the calling thread.
pub(crate) fn run(
    shared: &ServerState,
    body: &[u8],
    may_write: bool,
    fault: Option<&Fault>,
    client: &Client,
) -> PipelineAnswer {
    let streams = &shared.streams;
    let request: Json = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(error) => {
            return PipelineAnswer::protocol_error(format!(
                "Could not deserialize JSON request body: {error}"
            ));
        }
    };
    let Some(requests) = request.get("requests").and_then(Json::as_array) else {
        return PipelineAnswer::protocol_error(
            "Could not deserialize JSON request body: missing field `requests`",
        );
    };
    let connection = match streams.open(request.get("baton").and_then(Json::as_str)) {
        Ok(connection) => connection,
        Err(StreamError::Expired) => {
            let message = "The stream has expired due to inactivity";
            return PipelineAnswer::json(400, &json!({ "message": message, "code": "STREAM_EXPIRED" }));
        }
        Err(StreamError::BadBaton) => return PipelineAnswer::protocol_error("Received an invalid baton"),
        Err(StreamError::Full) => {
            let error = json!({ "error": "Timed out while opening database connection" });
            return PipelineAnswer::json(503, &error);
        }
        Err(StreamError::Engine(error)) => return PipelineAnswer::json(500, &json!({ "error": error })),
    };
    let stored = HashMap::new();
    let mut stream = Stream {
        connection: Some(connection),
        stored_sql: stored,
        shared,
        may_write,
        fault,
        client,
        write_guard: None,
    };
    let mut results = Vec::with_capacity(requests.len());
    for request in requests {
        // After an SQL error the remaining requests still run; a protocol error ends the pipeline.
        match stream.handle(request) {
            Ok(response) => results.push(json!({ "type": "ok", "response": response })),
            Err(RequestError::Sql(error)) => {
                results.push(json!({ "type": "error", "error": error.to_json() }));
            }
            Err(RequestError::Protocol(message)) => return PipelineAnswer::protocol_error(message),
        }
    }
    let baton = stream.connection.take().map(|connection| streams.park(connection));
    PipelineAnswer::json(200, &json!({ "baton": baton, "base_url": null, "results": results }))
}

enum RequestError {
    Sql(SqlError),
    Protocol(String),
}

impl From<SqlError> for RequestError {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

struct Stream<'a> {
    connection: Option<Connection>,
    stored_sql: HashMap<i64, String>,
    shared: &'a ServerState,
    may_write: bool,
    fault: Option<&'a Fault>,
    client: &'a Client,
    /// The write lock, from the start of a transaction to its end.
    write_guard: Option<WriteGuard>,
}

impl Stream<'_> {
    fn handle(&mut self, request: &Json) -> Result<Json, RequestError> {
        let field = |name: &str| request.get(name).ok_or_else(|| missing_field(name));
        match request.get("type").and_then(Json::as_str) {
            Some("close") => {
                self.connection = None;
                Ok(json!({ "type": "close" }))
            }
            Some("execute") => {
                let result = self.execute(field("stmt")?)?;
                Ok(json!({ "type": "execute", "result": result }))
            }
            Some("batch") => {
                let result = self.execute_batch(field("batch")?)?;
                Ok(json!({ "type": "batch", "result": result }))
            }
            Some("store_sql") => {
                let id = field("sql_id")?.as_i64().ok_or_else(|| missing_field("sql_id"))?;
                let sql = field("sql")?.as_str().ok_or_else(|| missing_field("sql"))?;
                self.stored_sql.insert(id, sql.to_owned());
                Ok(json!({ "type": "store_sql" }))
            }
            Some("get_autocommit") => {
                let is_autocommit = self.connection()?.is_autocommit();
                Ok(json!({ "type": "get_autocommit", "is_autocommit": is_autocommit }))
            }
            other => Err(RequestError::Protocol(format!(
                "The request type {other:?} is not implemented by the test server"
            ))),
        }
    }

    fn connection(&self) -> Result<&Connection, RequestError> {
        let closed = || RequestError::Protocol("The stream has been closed".to_owned());
        self.connection.as_ref().ok_or_else(closed)
    }

    fn execute(&mut self, statement: &Json) -> Result<Json, RequestError> {
        self.connection()?;
        let sql = match (statement.get("sql"), statement.get("sql_id").and_then(Json::as_i64)) {
            (Some(sql), None) => sql.as_str().ok_or_else(|| missing_field("sql"))?,
            (_, Some(id)) => {
                self.stored_sql.get(&id).map(String::as_str).ok_or_else(|| missing_field("sql"))?
            }
            (None, None) => return Err(missing_field("sql")),
        };
        let prepared = sql::prepare(sql, self.shared.clock.now())?;
        let args = statement.get("args").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        let args: Option<Vec<_>> = args.iter().map(sql::decode_value).collect();
        let args = args.ok_or_else(|| RequestError::Protocol("invalid value in `args`".to_owned()))?;
        if prepared.is_write && !self.may_write {
            let message = "SQLite error: attempt to write a readonly database";
            return Err(SqlError::new("SQLITE_READONLY", message).into());
        }
        let tally = &self.shared.counters;
        let count = || tally.update(|counters| counters.statements += 1);
        if let Some(Fault::Sql { code, message }) = self.fault {
            count();
            return Err(SqlError::new(code, *message).into());
        }
        let want_rows = statement.get("want_rows").and_then(Json::as_bool).unwrap_or(true)
            && self.fault != Some(&Fault::MissingRows);
        // A lone write waits in the same queue.
        if (prepared.takes_write_lock || prepared.is_write) && self.write_guard.is_none() {
            let restarted = || SqlError::new("SQLITE_INTERRUPT", "SQLite error: interrupted");
            self.write_guard = Some(self.shared.write_lock.acquire(self.client).ok_or_else(restarted)?);
        }
        let connection = self.connection()?;
        let was_autocommit = connection.is_autocommit();
        let result = sql::run(connection, &prepared, args, want_rows);
        let ends_transaction = connection.is_autocommit() && !was_autocommit;
        if connection.is_autocommit() {
            self.write_guard = None;
        }
        // Counted after execution: a test that waits for the counter relies on the statement having read its
        // data.
        count();
        let mut executed = result?;
        self.shared.statement_log.record_rows(sql, executed.rows_read, executed.rows_written);
        if prepared.is_write || ends_transaction {
            self.shared.replication_index.advance();
        }
        executed.result["replication_index"] = self.shared.replication_index.text().into();
        Ok(executed.result)
    }

    fn execute_batch(&mut self, batch: &Json) -> Result<Json, RequestError> {
        let steps = batch.get("steps").and_then(Json::as_array).ok_or_else(|| missing_field("steps"))?;
        // The whole batch is parsed before any of it is executed.
        for step in steps {
            let sql = step.pointer("/stmt/sql").and_then(Json::as_str);
            sql::prepare(sql.ok_or_else(|| missing_field("sql"))?, None)?;
        }
        let mut results: Vec<Json> = Vec::with_capacity(steps.len());
        let mut errors: Vec<Json> = Vec::with_capacity(steps.len());
        for step in steps {
            let runs = match step.get("condition") {
                None | Some(Json::Null) => true,
                Some(condition) => condition_holds(condition, &results, &errors)?,
            };
            let (result, error) = if !runs {
                (Json::Null, Json::Null)
            } else {
                let statement = step.get("stmt").ok_or_else(|| missing_field("stmt"))?;
                match self.execute(statement) {
                    Ok(result) => (result, Json::Null),
                    Err(RequestError::Sql(error)) => (Json::Null, error.to_json()),
                    Err(breach) => return Err(breach),
                }
            };
            results.push(result);
            errors.push(error);
        }
        let index = self.shared.replication_index.text();
        Ok(json!({ "step_results": results, "step_errors": errors, "replication_index": index }))
    }
}

/// Returns whether a step's condition holds. `is_autocommit` belongs to version 3 of the protocol and is
/// rejected, as on `/v2`.
fn condition_holds(condition: &Json, results: &[Json], errors: &[Json]) -> Result<bool, RequestError> {
    let step = || {
        let step = condition.get("step").and_then(Json::as_u64);
        let step = step.and_then(|step| usize::try_from(step).ok());
        step.filter(|step| *step < results.len())
            .ok_or_else(|| RequestError::Protocol("Invalid reference to step in a condition".to_owned()))
    };
    let inner = |name: &str| condition.get(name).ok_or_else(|| missing_field(name));
    let all = || {
        let conditions = inner("conds")?.as_array().ok_or_else(|| missing_field("conds"))?;
        conditions
            .iter()
            .map(|condition| condition_holds(condition, results, errors))
            .collect::<Result<Vec<_>, _>>()
    };
    match condition.get("type").and_then(Json::as_str) {
        Some("ok") => Ok(!results[step()?].is_null()),
        Some("error") => Ok(!errors[step()?].is_null()),
        Some("not") => Ok(!condition_holds(inner("cond")?, results, errors)?),
        Some("and") => Ok(all()?.into_iter().all(|held| held)),
        Some("or") => Ok(all()?.into_iter().any(|held| held)),
        other => Err(RequestError::Protocol(format!("unsupported batch condition {other:?}"))),
    }
}

fn missing_field(field: &str) -> RequestError {
    RequestError::Protocol(format!("Could not deserialize JSON request body: missing field `{field}`"))
}
