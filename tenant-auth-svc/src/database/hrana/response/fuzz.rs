//! Fuzzing of responses, from a database or from another server.

use serde::de::IgnoredAny;
use serde_json::Value as Json;
use tenant_auth_testkit::fuzz::Language;

use super::*;

const LANGUAGE: Language = Language {
    seeds: &[
        br#"{"baton":null,"base_url":null,"results":[{"type":"ok","response":{"type":"execute","result":{"cols":[{"name":"a"}],"rows":[[{"type":"null"},{"type":"integer","value":"-9223372036854775808"},{"type":"float","value":1.5},{"type":"text","value":"a\"b\u00e9"},{"type":"blob","base64":"AQI="}],[{"type":"integer","value":"7"}]],"affected_row_count":0,"last_insert_rowid":null,"replication_index":"7"}}},{"type":"ok","response":{"type":"close"}}]}"#,
        br#"{"baton":null,"base_url":null,"results":[{"type":"ok","response":{"type":"batch","result":{"step_results":[{"cols":[],"rows":[],"affected_row_count":0,"last_insert_rowid":null},{"cols":[],"rows":[[{"type":"text","value":"x"}]],"affected_row_count":1,"last_insert_rowid":"3"},{"cols":[],"rows":[],"affected_row_count":0,"last_insert_rowid":null},null],"step_errors":[null,null,null,null]}}},{"type":"ok","response":{"type":"close"}}]}"#,
        br#"{"results":[{"type":"error","error":{"message":"SQLite error: database is locked","code":"SQLITE_BUSY"}},{"type":"ok","response":{"type":"close"}}]}"#,
        // Half of a surrogate pair, in a field that is ignored.
        br#"{"results":[{"type":"ok","response":{"type":"execute","result":{"cols":[{"name":"\ud800"}],"rows":[[{"type":"null"}]]}}},{"type":"ok","response":{"type":"close"}}]}"#,
        b"<html><body>Bad gateway</body></html>",
    ],
    words: &[
        b"null", br#"{"type":"null"}"#, br#""type":"error","#, br#""step_errors":[null],"#, br#"{"message":"m"}"#, b"[", b"]", b"{", b"}",
        b",", br#""rows":[],"#, b"\"", b"\\u0000", b"1e999", b"-0", b"\xff", br#"{"type":"ok","response":{"type":"close"}}"#,
    ],
};

/// Parses an accepted body as any JSON reader does; `None` if only an ignored string prevents that: serde checks the
/// grammar of ignored values, not their characters.
fn parse_json(body: &[u8]) -> Option<Json> {
    let json = serde_json::from_slice(body).ok();
    assert!(json.is_some() || serde_json::from_slice::<IgnoredAny>(body).is_ok(), "an accepted body is JSON");
    json
}

/// Returns a member of a response as any JSON reader finds it.
fn find_member<'a>(json: &'a Json, path: &str) -> Option<&'a Json> {
    json.pointer(path).filter(|value| !value.is_null())
}

#[test]
fn parsed_rows_match_the_response() {
    LANGUAGE.check(|body| {
        let Ok((rows, _)) = parse_rows(body) else { return };
        // Duplicate members are read differently by different readers; serde rejects them where it matters.
        let Some(json) = parse_json(body) else { return };
        assert_eq!(
            json["results"].as_array().map(Vec::len),
            Some(2),
            "one result, and that of the close request"
        );
        let first = ["/results/0/response/result/rows", "/results/0/response/result/step_results/0/rows"];
        let expected =
            first.iter().find_map(|path| find_member(&json, path)?.as_array()).expect("rows exist");
        assert_eq!(rows.iter().map(|row| row.0.len()).collect::<Vec<_>>(), widths(expected));
    });
}

fn widths(rows: &[Json]) -> Vec<usize> {
    rows.iter().map(|row| row.as_array().map_or(0, Vec::len)).collect()
}

#[test]
fn parsed_transaction_is_committed_or_an_error() {
    LANGUAGE.check(|body| {
        let Ok((outcomes, _)) = parse_transactions(body, &[1]) else { return };
        let [outcome] = &outcomes[..] else { panic!("one result was requested") };
        let Ok(results) = outcome else { return };
        assert_eq!(results.len(), 1);
        let Some(json) = parse_json(body) else { return };
        // BEGIN, the statement, COMMIT.
        for step in 0..3 {
            let path = format!("/results/0/response/result/step_results/{step}");
            assert!(find_member(&json, &path).is_some(), "step {step}");
            assert!(
                find_member(&json, &path.replace("step_results", "step_errors")).is_none(),
                "step {step}"
            );
        }
    });
}

#[test]
fn parse_error_is_one_short_line() {
    LANGUAGE.check(|body| {
        let Err(error) = parse_rows(body) else { return };
        let is_json = serde_json::from_slice::<Json>(body).is_ok();
        assert!(is_json || error.kind == FailureKind::InvalidResponse, "{error}");
        assert!(error.message.chars().count() <= 2 * MAX_ERROR_CHARS + 20, "{error}");
        assert!(excerpt(body).chars().all(|c| !c.is_control()));
        assert!(excerpt(body).chars().count() <= MAX_ERROR_CHARS);
    });
}
