//! Reading answers, and trusting none of them.

use super::{
    MAX_ERROR_TEXT,
    wire::{BatchResult, PipelineResponse, SqlError, StmtResult, StreamResponse, StreamResult},
};
use crate::{
    domain::store::{FailureKind, StoreError},
    store::engine::{Row, Rows, Value, sql_error},
};

/// The rows of a single statement.
pub(super) fn rows(body: &[u8]) -> Result<Rows, StoreError> {
    match first_response(body)? {
        StreamResponse::Execute { result } => statement_rows(result),
        StreamResponse::Batch { .. } | StreamResponse::Other => Err(not_the_answer()),
    }
}

/// The rows of each statement of a committed transaction.
pub(super) fn transaction(body: &[u8], statements: usize) -> Result<Vec<Rows>, StoreError> {
    let StreamResponse::Batch { result } = first_response(body)? else {
        return Err(not_the_answer());
    };
    let BatchResult { step_results, step_errors } = result;
    // BEGIN, the statements, COMMIT, ROLLBACK.
    let steps = statements + 3;
    if step_results.len() != steps || step_errors.len() != steps {
        return Err(StoreError::new(
            FailureKind::Garbled,
            format!("asked for {steps} steps, got the results of {}", step_results.len()),
        ));
    }
    // The first error is the cause; a failed ROLLBACK after it says nothing new.
    if let Some(error) = step_errors.into_iter().flatten().next() {
        return Err(error_of(&error));
    }
    let mut results = step_results.into_iter();
    let begin = results.next().flatten();
    let rows: Option<Vec<_>> = results.by_ref().take(statements).collect();
    let commit = results.next().flatten();
    match (begin, rows, commit) {
        (Some(_), Some(rows), Some(_)) => rows.into_iter().map(statement_rows).collect(),
        _ => Err(StoreError::new(FailureKind::Garbled, "a step has neither a result nor an error")),
    }
}

fn first_response(body: &[u8]) -> Result<StreamResponse<'_>, StoreError> {
    let response: PipelineResponse<'_> = serde_json::from_slice(body).map_err(|error| {
        // The position, not serde's quotation: rows may be in it.
        let (line, column) = (error.line(), error.column());
        let what = format!(
            "the answer ({} bytes) is not of the protocol, at line {line} column {column}",
            body.len()
        );
        StoreError::new(FailureKind::Garbled, what)
    })?;
    // Ours and that of the close.
    if response.results.len() != 2 {
        let got = response.results.len();
        return Err(StoreError::new(FailureKind::Garbled, format!("expected 2 results, got {got}")));
    }
    match response.results.into_iter().next() {
        Some(StreamResult::Ok { response }) => Ok(response),
        Some(StreamResult::Error { error }) => Err(error_of(&error)),
        None => Err(not_the_answer()),
    }
}

fn statement_rows(result: StmtResult<'_>) -> Result<Rows, StoreError> {
    let row = |values: Vec<_>| values.into_iter().map(Value::try_from).collect::<Result<_, _>>().map(Row);
    result.rows.into_iter().map(row).collect()
}

fn error_of(error: &SqlError) -> StoreError {
    let message: String = error.message.chars().take(MAX_ERROR_TEXT).collect();
    sql_error(error.code.as_deref().unwrap_or("(no code)"), &message)
}

fn not_the_answer() -> StoreError {
    StoreError::new(FailureKind::Garbled, "the answer is to another question")
}

/// The beginning of a body of unknown kind, fit for a log: one line, no control characters.
pub(super) fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..MAX_ERROR_TEXT).unwrap_or(body));
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLOSE: &str = r#"{"type":"ok","response":{"type":"close"}}"#;

    fn pipeline(first: &str) -> String {
        format!(r#"{{"baton":null,"base_url":null,"results":[{first},{CLOSE}]}}"#)
    }

    fn execute(rows: &str) -> String {
        pipeline(&format!(
            r#"{{"type":"ok","response":{{"type":"execute","result":{{"cols":[],"rows":{rows},"affected_row_count":0,"last_insert_rowid":null,"replication_index":"7"}}}}}}"#
        ))
    }

    #[test]
    fn every_type_of_value_is_read() {
        let body = execute(
            r#"[[{"type":"null"},{"type":"integer","value":"9007199254740993"},{"type":"float","value":1.5},{"type":"text","value":"a\"b"},{"type":"blob","base64":"AQI"},{"type":"blob","base64":"AQI="}]]"#,
        );
        let blob = Value::Blob(bytes::Bytes::from_static(&[1, 2]));
        let expected = vec![
            Value::Null,
            Value::Integer(9_007_199_254_740_993),
            Value::Real(1.5),
            "a\"b".into(),
            blob.clone(),
            blob,
        ];
        assert_eq!(rows(body.as_bytes()), Ok(vec![Row(expected)]));
    }

    #[test]
    fn anything_else_is_garbled_and_never_an_empty_result() {
        let whole = execute(r#"[[{"type":"integer","value":"1"}]]"#);
        let mut bodies: Vec<Vec<u8>> =
            (0..whole.len()).map(|length| whole.as_bytes()[..length].to_vec()).collect();
        bodies.extend(
            [
                "<html><body>Bad gateway</body></html>".to_owned(),
                "null".to_owned(),
                r#"{"results":[]}"#.to_owned(),
                r#"{"error":"nope"}"#.to_owned(),
                pipeline(CLOSE),
                pipeline(r#"{"type":"none"}"#),
                execute("null"),
                execute(r#"[[{"type":"integer","value":"x"}]]"#),
                execute(r#"[[{"type":"integer"}]]"#),
                execute(r#"[[{"type":"blob","base64":"!"}]]"#),
                execute(r#"[[{"type":"surprise"}]]"#),
                execute("[]").replace(&format!(",{CLOSE}"), ""),
            ]
            .map(String::into_bytes),
        );
        bodies.push(vec![0xff, 0xfe, 0x00]);
        for body in bodies {
            let outcome = rows(&body);
            let shown = String::from_utf8_lossy(&body);
            assert_eq!(outcome.unwrap_err().kind, FailureKind::Garbled, "{shown}");
        }
    }

    #[test]
    fn an_sql_error_is_read_from_a_200() {
        let body = pipeline(
            r#"{"type":"error","error":{"message":"SQLite error: database is locked","code":"SQLITE_BUSY"}}"#,
        );
        assert_eq!(rows(body.as_bytes()).unwrap_err().kind, FailureKind::Busy);
    }

    fn batch(results: &str, errors: &str) -> String {
        pipeline(&format!(
            r#"{{"type":"ok","response":{{"type":"batch","result":{{"step_results":[{results}],"step_errors":[{errors}]}}}}}}"#
        ))
    }

    const DONE: &str = r#"{"cols":[],"rows":[],"affected_row_count":0,"last_insert_rowid":null}"#;

    #[test]
    fn a_transaction_is_done_only_with_every_step_and_its_commit() {
        let committed = batch(&format!("{DONE},{DONE},{DONE},null"), "null,null,null,null");
        assert_eq!(transaction(committed.as_bytes(), 1), Ok(vec![vec![]]));

        let without_commit = batch(&format!("{DONE},{DONE},null,null"), "null,null,null,null");
        let too_short = batch(&format!("{DONE},{DONE}"), "null,null");
        for body in [without_commit, too_short] {
            assert_eq!(transaction(body.as_bytes(), 1).unwrap_err().kind, FailureKind::Garbled);
        }
    }

    #[test]
    fn the_first_error_of_a_transaction_is_its_cause() {
        let body = batch(
            &format!("{DONE},null,null,null"),
            r#"null,{"message":"UNIQUE","code":"SQLITE_CONSTRAINT_UNIQUE"},null,{"message":"cannot rollback","code":"SQLITE_ERROR"}"#,
        );
        assert_eq!(transaction(body.as_bytes(), 1).unwrap_err().kind, FailureKind::Conflict);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..500)) {
            let _ = rows(&body);
            let _ = transaction(&body, 2);
            let _ = excerpt(&body);
        }
    }
}
