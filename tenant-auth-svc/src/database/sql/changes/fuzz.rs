//! Fuzzing of change logs, as any writer may store them.

use serde_json::Value as Json;
use tenant_auth_testkit::fuzz::Language;

use super::*;
use crate::database::engine::SqlValue;

/// Rows as JSON: the state of the database (the last and first position of the log, the anchor, the identity, the heartbeat,
/// the clock), then entries with their anchors and revocations.
const LANGUAGE: Language = Language {
    seeds: &[
        br#"[[null,null,null,null,9,1,"key key_1 5",null,null,null,null,"00ff 1 ","3 4",5,null],[7,"key","key_1","ten_1",null,null,null,"key key_1 8",1790000000000,null,null,null,null,null,null],[8,"tenant","ten_1","ten_1",null,null,null,"tenant ten_1 8",null,1,null,null,null,null,null],[9,"session","s-1","ten_1",null,null,null,"session s-1 9",null,null,0,null,null,null,null]]"#,
        br#"[[null,null,null,null,9,1,"key key_1 5",null,null,null,null,"0123456789abcdef0123456789abcdef 2 fedcba9876543210fedcba9876543210","3 4",5,null]]"#,
        br#"[[null,null,null,null,9223372036854775807,0,null,null,null,null,null,null,null,-1,null],[7,"novelty","x","",null,null,null,"x",null,null,null,null,null,null,null]]"#,
    ],
    words: &[b"null,", b"0,", b"-1,", b"\"key\",", b"\"tenant\",", b"\"session\",", b"\"\",", b"1.5,", b"],[", b"9223372036854775807,"],
};

fn parse_rows(bytes: &[u8]) -> Option<Vec<Row>> {
    let value = |value: Json| match value {
        Json::Null => SqlValue::Null,
        Json::Number(number) => match number.as_i64() {
            Some(integer) => SqlValue::Integer(integer),
            None => SqlValue::Real(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => text.into(),
        Json::Bool(_) | Json::Array(_) | Json::Object(_) => SqlValue::Blob(bytes::Bytes::from_static(b"x")),
    };
    let rows: Vec<Vec<Json>> = serde_json::from_slice(bytes).ok()?;
    Some(rows.into_iter().map(|row| Row(row.into_iter().map(value).collect())).collect())
}

#[test]
fn log_page_covers_exactly_the_logged_rows() {
    LANGUAGE.check(|bytes| {
        let Some(rows) = parse_rows(bytes) else { return };
        match parse_page(&rows) {
            Ok(page) => {
                let numbers: Vec<_> = rows[1..].iter().map(|row| row.integer(0).unwrap()).collect();
                assert_eq!(page.entries.iter().map(|(number, _)| *number).collect::<Vec<_>>(), numbers);
                assert_eq!(page.last().map(|(number, _)| *number), numbers.last().copied());
                for change in &page.invalidations {
                    assert!(numbers.contains(&change.revision.0));
                    let is_reported = match &change.subject {
                        Subject::Key(id) => page.per_subject.keys.contains_key(id),
                        Subject::Tenant(id) => page.per_subject.tenants.contains_key(id),
                        Subject::Session(id) => page.per_subject.sessions.contains_key(id),
                    };
                    assert!(is_reported, "every invalidation of watchers is applied to the cache too");
                }
            }
            Err(error) => {
                assert_eq!(error.kind, FailureKind::InvalidResponse);
                let has_no_state = rows.first().is_none_or(|state| state.0.first() != Some(&SqlValue::Null));
                assert!(has_no_state || error.message.starts_with("column "), "{error}");
            }
        }
    });
}
