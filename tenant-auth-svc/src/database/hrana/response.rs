//! Parses responses; validates everything.

use super::{
    MAX_ERROR_CHARS,
    row_counts::Statistics,
    wire::{BatchResult, PipelineResponse, SqlError, StmtResult, StreamResponse, StreamResult},
};
use crate::{
    database::engine::{Row, Rows, SqlValue, TransactionResult, sql_error},
    domain::store::{FailureKind, StoreError},
};

/// Parses the rows of a single statement, alone or as the first step of a batch.
pub(super) fn parse_rows(body: &[u8]) -> Result<(Rows, Statistics), StoreError> {
    let response = parse_responses(body, 1)?.pop().ok_or_else(unexpected_response)??;
    let statistics = statistics_of(&response);
    let rows = match response {
        StreamResponse::Execute { result } => statement_rows(result),
        StreamResponse::Batch { result } => first_step_rows(result),
        StreamResponse::Other => Err(unexpected_response()),
    };
    Ok((rows?, statistics))
}

/// Parses the result of each transaction: the rows of each statement if it was committed. `sizes` is the number of
/// statements of each.
pub(super) fn parse_transactions(
    body: &[u8],
    sizes: &[usize],
) -> Result<(Vec<TransactionResult>, Statistics), StoreError> {
    let responses = parse_responses(body, sizes.len())?;
    let mut statistics = Statistics::default();
    for response in responses.iter().flatten() {
        statistics.add(statistics_of(response));
    }
    let outcomes = responses.into_iter().zip(sizes).map(|(response, statements)| match response? {
        StreamResponse::Batch { result } => transaction_result(result, *statements),
        StreamResponse::Execute { .. } | StreamResponse::Other => Err(unexpected_response()),
    });
    Ok((outcomes.collect(), statistics))
}

fn statistics_of(response: &StreamResponse<'_>) -> Statistics {
    let of_statement = |result: &StmtResult<'_>| Statistics {
        rows_read: result.rows_read.get(),
        rows_written: result.rows_written.get(),
        replication_index: result.replication_index.get(),
    };
    match response {
        StreamResponse::Execute { result } => of_statement(result),
        StreamResponse::Batch { result } => {
            let mut statistics =
                Statistics { replication_index: result.replication_index.get(), ..Statistics::default() };
            for step in result.step_results.iter().flatten() {
                statistics.add(of_statement(step));
            }
            statistics
        }
        StreamResponse::Other => Statistics::default(),
    }
}

fn first_step_rows(result: BatchResult<'_>) -> Result<Rows, StoreError> {
    let BatchResult { step_results, step_errors, .. } = result;
    match (step_results.into_iter().next().flatten(), step_errors.into_iter().next().flatten()) {
        (_, Some(error)) => Err(store_error(&error)),
        (Some(result), None) => statement_rows(result),
        (None, None) => Err(unexpected_response()),
    }
}

fn transaction_result(result: BatchResult<'_>, statements: usize) -> TransactionResult {
    let BatchResult { step_results, step_errors, .. } = result;
    // BEGIN, the statements, COMMIT, ROLLBACK.
    let steps = statements + 3;
    if step_results.len() != steps || step_errors.len() != steps {
        return Err(StoreError::new(
            FailureKind::InvalidResponse,
            format!("expected the results of {steps} steps, got {}", step_results.len()),
        ));
    }
    // The first error is the cause; a failed ROLLBACK after it adds nothing.
    if let Some(error) = step_errors.into_iter().flatten().next() {
        return Err(store_error(&error));
    }
    let mut results = step_results.into_iter();
    let begin = results.next().flatten();
    let rows: Option<Vec<_>> = results.by_ref().take(statements).collect();
    let commit = results.next().flatten();
    match (begin, rows, commit) {
        (Some(_), Some(rows), Some(_)) => rows.into_iter().map(statement_rows).collect(),
        _ => Err(StoreError::new(FailureKind::InvalidResponse, "a step has neither a result nor an error")),
    }
}

/// Parses the responses to the given number of requests; the response to the close request comes after them.
fn parse_responses(
    body: &[u8],
    requests: usize,
) -> Result<Vec<Result<StreamResponse<'_>, StoreError>>, StoreError> {
    let response: PipelineResponse<'_> = serde_json::from_slice(body).map_err(|error| {
        // The position only: serde's message may quote rows.
        let (line, column) = (error.line(), error.column());
        let message = format!("invalid response ({} bytes) at line {line} column {column}", body.len());
        StoreError::new(FailureKind::InvalidResponse, message)
    })?;
    let (expected, got) = (requests + 1, response.results.len());
    if got != expected {
        let message = format!("expected {expected} results, got {got}");
        return Err(StoreError::new(FailureKind::InvalidResponse, message));
    }
    let responses = response.results.into_iter().take(requests);
    Ok(responses
        .map(|result| match result {
            StreamResult::Ok { response } => Ok(response),
            StreamResult::Error { error } => Err(store_error(&error)),
        })
        .collect())
}

fn statement_rows(result: StmtResult<'_>) -> Result<Rows, StoreError> {
    let row = |values: Vec<_>| values.into_iter().map(SqlValue::try_from).collect::<Result<_, _>>().map(Row);
    result.rows.into_iter().map(row).collect()
}

fn store_error(error: &SqlError) -> StoreError {
    let message: String = error.message.chars().take(MAX_ERROR_CHARS).collect();
    sql_error(error.code.as_deref().unwrap_or("(no code)"), &message)
}

fn unexpected_response() -> StoreError {
    StoreError::new(FailureKind::InvalidResponse, "the response does not match the request")
}

/// The beginning of a body of unknown type, safe for a log: one line, no control characters.
pub(super) fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..MAX_ERROR_CHARS).unwrap_or(body));
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLOSE_RESULT: &str = r#"{"type":"ok","response":{"type":"close"}}"#;

    fn pipeline(first: &str) -> String {
        format!(r#"{{"baton":null,"base_url":null,"results":[{first},{CLOSE_RESULT}]}}"#)
    }

    fn execute(rows: &str) -> String {
        pipeline(&format!(
            r#"{{"type":"ok","response":{{"type":"execute","result":{{"cols":[],"rows":{rows},"affected_row_count":0,"last_insert_rowid":null,"replication_index":"7"}}}}}}"#
        ))
    }

    #[test]
    fn every_value_type_is_decoded() {
        let body = execute(
            r#"[[{"type":"null"},{"type":"integer","value":"9007199254740993"},{"type":"float","value":1.5},{"type":"text","value":"a\"b"},{"type":"blob","base64":"AQI"},{"type":"blob","base64":"AQI="}]]"#,
        );
        let blob = SqlValue::Blob(bytes::Bytes::from_static(&[1, 2]));
        let expected = vec![
            SqlValue::Null,
            SqlValue::Integer(9_007_199_254_740_993),
            SqlValue::Real(1.5),
            "a\"b".into(),
            blob.clone(),
            blob,
        ];
        assert_eq!(parse_rows(body.as_bytes()).map(|(rows, _)| rows), Ok(vec![Row(expected)]));
    }

    #[test]
    fn malformed_response_is_an_error_and_never_empty_rows() {
        let complete = execute(r#"[[{"type":"integer","value":"1"}]]"#);
        let mut bodies: Vec<Vec<u8>> =
            (0..complete.len()).map(|length| complete.as_bytes()[..length].to_vec()).collect();
        bodies.extend(
            [
                "<html><body>Bad gateway</body></html>".to_owned(),
                "null".to_owned(),
                r#"{"results":[]}"#.to_owned(),
                r#"{"error":"nope"}"#.to_owned(),
                pipeline(CLOSE_RESULT),
                pipeline(r#"{"type":"none"}"#),
                execute("null"),
                execute(r#"[[{"type":"integer","value":"x"}]]"#),
                execute(r#"[[{"type":"integer"}]]"#),
                execute(r#"[[{"type":"blob","base64":"!"}]]"#),
                execute(r#"[[{"type":"surprise"}]]"#),
                execute("[]").replace(&format!(",{CLOSE_RESULT}"), ""),
            ]
            .map(String::into_bytes),
        );
        bodies.push(vec![0xff, 0xfe, 0x00]);
        for body in bodies {
            let outcome = parse_rows(&body).map(|(rows, _)| rows);
            let shown = String::from_utf8_lossy(&body);
            assert_eq!(outcome.unwrap_err().kind, FailureKind::InvalidResponse, "{shown}");
        }
    }

    #[test]
    fn sql_error_is_read_from_status_200() {
        let body = pipeline(
            r#"{"type":"error","error":{"message":"SQLite error: database is locked","code":"SQLITE_BUSY"}}"#,
        );
        assert_eq!(parse_rows(body.as_bytes()).unwrap_err().kind, FailureKind::Busy);
    }

    fn batch(results: &str, errors: &str) -> String {
        pipeline(&format!(
            r#"{{"type":"ok","response":{{"type":"batch","result":{{"step_results":[{results}],"step_errors":[{errors}]}}}}}}"#
        ))
    }

    fn single_transaction(body: &str, statements: usize) -> TransactionResult {
        parse_transactions(body.as_bytes(), &[statements]).unwrap().0.pop().unwrap()
    }

    const EMPTY_RESULT: &str = r#"{"cols":[],"rows":[],"affected_row_count":0,"last_insert_rowid":null}"#;

    #[test]
    fn transaction_needs_every_step_and_its_commit() {
        let committed =
            batch(&format!("{EMPTY_RESULT},{EMPTY_RESULT},{EMPTY_RESULT},null"), "null,null,null,null");
        assert_eq!(single_transaction(&committed, 1), Ok(vec![vec![]]));

        let without_commit =
            batch(&format!("{EMPTY_RESULT},{EMPTY_RESULT},null,null"), "null,null,null,null");
        let too_short = batch(&format!("{EMPTY_RESULT},{EMPTY_RESULT}"), "null,null");
        for body in [without_commit, too_short] {
            assert_eq!(single_transaction(&body, 1).unwrap_err().kind, FailureKind::InvalidResponse);
        }
    }

    #[test]
    fn first_error_of_a_transaction_is_reported() {
        let body = batch(
            &format!("{EMPTY_RESULT},null,null,null"),
            r#"null,{"message":"UNIQUE","code":"SQLITE_CONSTRAINT_UNIQUE"},null,{"message":"cannot rollback","code":"SQLITE_ERROR"}"#,
        );
        assert_eq!(single_transaction(&body, 1).unwrap_err().kind, FailureKind::Conflict);
    }

    #[test]
    fn failed_transaction_does_not_affect_others() {
        let result = |body: String| {
            let json: serde_json::Value = serde_json::from_str(&body).unwrap();
            json["results"][0].to_string()
        };
        let committed = result(batch(
            &format!("{EMPTY_RESULT},{EMPTY_RESULT},{EMPTY_RESULT},null"),
            "null,null,null,null",
        ));
        let failed = r#"{"type":"error","error":{"message":"locked","code":"SQLITE_BUSY"}}"#;
        let body = pipeline(&format!("{committed},{failed},{committed}"));
        let (outcomes, _) = parse_transactions(body.as_bytes(), &[1, 1, 1]).unwrap();
        let kinds: Vec<_> =
            outcomes.iter().map(|outcome| outcome.as_ref().err().map(|error| error.kind)).collect();
        assert_eq!(kinds, [None, Some(FailureKind::Busy), None]);
        assert_eq!(
            parse_transactions(body.as_bytes(), &[1, 1]).unwrap_err().kind,
            FailureKind::InvalidResponse,
            "one result too many"
        );
    }

    #[test]
    fn rows_are_counted_and_a_strange_count_harms_no_answer() {
        let body = |read: &str| {
            execute("[]")
                .replace(r#""affected_row_count":0"#, &format!(r#""rows_read":{read},"rows_written":2"#))
        };
        for (read, counted) in [("7", 7), ("null", 0), ("-1", 0), ("\"7\"", 0), ("1e99", 0), ("[{}]", 0)] {
            let (rows, statistics) = parse_rows(body(read).as_bytes()).unwrap();
            assert_eq!(
                (rows.len(), statistics),
                (0, Statistics { rows_read: counted, rows_written: 2, replication_index: 7 }),
                "{read}"
            );
        }
    }

    #[test]
    fn replication_index_is_read_from_statements_and_batches_and_harms_no_answer() {
        let index = |index: &str| {
            let body = execute("[]")
                .replace(r#""replication_index":"7""#, &format!(r#""replication_index":{index}"#));
            parse_rows(body.as_bytes()).unwrap().1.replication_index
        };
        let largest = u64::MAX.to_string();
        for (given, read) in [
            ("\"12\"", 12),
            ("12", 12),
            (&format!("\"{largest}\"") as &str, u64::MAX),
            ("null", 0),
            ("\"x\"", 0),
            ("-1", 0),
            ("[]", 0),
        ] {
            assert_eq!(index(given), read, "{given}");
        }
        let result = EMPTY_RESULT.replace('}', r#","replication_index":"9"}"#);
        let body = batch(&format!("{result},null,{EMPTY_RESULT},null"), "null,null,null,null").replacen(
            r#""step_errors""#,
            r#""replication_index":"11","step_errors""#,
            1,
        );
        let (_, statistics) = parse_transactions(body.as_bytes(), &[1]).unwrap();
        assert_eq!(statistics.replication_index, 11, "the index of the whole batch, or its highest");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..500)) {
            let _ = parse_rows(&body);
            let _ = parse_transactions(&body, &[2, 1]);
            let _ = excerpt(&body);
        }
    }
}
