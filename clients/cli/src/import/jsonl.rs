//! Parses JSON Lines: one JSON object per line.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;

use super::row::{Cells, Problem, Row, known_column, unknown_column};

/// The fields of an object, in their order. Unlike a map, it keeps a repeated name.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Fields, M::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

pub(super) fn parse(bytes: &[u8], default_tenant: &str) -> (Vec<Row>, Vec<Problem>) {
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    for (bytes, line) in bytes.split(|byte| *byte == b'\n').zip(1..) {
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        match read_row(bytes, line, default_tenant) {
            Ok(row) => rows.push(row),
            Err(found) => problems.extend(found),
        }
    }
    (rows, problems)
}

fn read_row(bytes: &[u8], line: u64, default_tenant: &str) -> Result<Row, Vec<Problem>> {
    let Fields(fields) = read_object(bytes).map_err(|text| vec![Problem::for_row(line, text)])?;
    let mut cells = Cells::default();
    let mut problems = Vec::new();
    let mut seen = Vec::new();
    for (name, value) in &fields {
        let Some(column) = known_column(name) else {
            problems.push(Problem::for_row(line, unknown_column(name)));
            continue;
        };
        if seen.contains(&column) {
            problems.push(Problem::new(line, column, "duplicate field"));
            continue;
        }
        seen.push(column);
        match (column, value) {
            (_, Value::Null) => {}
            (column, Value::String(text)) => {
                cells.set(column, text.trim());
            }
            ("scopes" | "allowed_networks", Value::Array(items)) => match strings(items) {
                Some(items) if column == "scopes" => cells.scopes = items,
                Some(items) => cells.allowed_networks = items,
                None => problems.push(Problem::new(line, column, "must contain only strings")),
            },
            ("scopes" | "allowed_networks", _) => {
                problems.push(Problem::new(line, column, "must be a string or an array of strings"));
            }
            (column, _) => problems.push(Problem::new(line, column, "must be a string")),
        }
    }
    if problems.is_empty() { cells.check(line, default_tenant) } else { Err(problems) }
}

/// Reads an object, or says what is wrong. The message of the parser may repeat a value, so it is not used.
fn read_object(bytes: &[u8]) -> Result<Fields, String> {
    if str::from_utf8(bytes).is_err() {
        return Err("not UTF-8: save the file as UTF-8".to_owned());
    }
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err("a JSON array: write one object per line, for example with `jq -c '.[]'`".to_owned());
    }
    serde_json::from_slice(bytes).map_err(|error| {
        if error.is_eof() {
            "the object does not end on its line: write one object per line, for example with `jq -c .`"
                .to_owned()
        } else if error.is_data() {
            "must be a JSON object".to_owned()
        } else {
            format!("invalid JSON at character {}", error.column())
        }
    })
}

fn strings(values: &[Value]) -> Option<Vec<&str>> {
    values.iter().map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn problems(file: &str) -> Vec<String> {
        let (_, problems) = parse(file.as_bytes(), "t");
        problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn jsonl_line_numbers_match_the_file() {
        let file = format!("\r\n{{\"sha256\":\"{SHA}\",\"name\":null}}\r\n\n{{\"sha256\":\"{SHA}\"}}");
        let (rows, problems) = parse(file.as_bytes(), "t");
        assert_eq!(problems, []);
        assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 4]);
    }

    #[test]
    fn invalid_jsonl_rows_are_reported() {
        assert_eq!(problems("1"), ["1: must be a JSON object"]);
        assert_eq!(problems("{\"sha256\";"), ["1: invalid JSON at character 10"]);
        assert!(problems("[{}]")[0].contains("`jq -c '.[]'`"));
        assert!(problems("{\"sha256\":")[0].contains("`jq -c .`"));
        assert_eq!(problems("{\"sha256\":5}"), ["1: sha256: must be a string"]);
        assert_eq!(problems("{\"scopes\":[5]}"), ["1: scopes: must contain only strings"]);
        assert_eq!(problems("{\"scopes\":5}"), ["1: scopes: must be a string or an array of strings"]);
        assert!(problems("{\"key\":\"x\"}")[0].contains("never imported in plaintext"));
        let (_, found) = parse(b"{\"name\":\"\xff\"}", "t");
        assert_eq!(found[0].to_string(), "1: not UTF-8: save the file as UTF-8");
    }

    #[test]
    fn jsonl_field_names_are_read_in_any_case_and_once() {
        let (rows, _) = parse(format!("{{\" SHA256 \":\"{SHA}\",\"Name\":\"n\"}}").as_bytes(), "t");
        assert_eq!(rows[0].key.name, "n");
        for second in ["name", "NAME"] {
            let file = format!("{{\"sha256\":\"{SHA}\",\"name\":\"a\",\"{second}\":\"b\"}}");
            assert_eq!(problems(&file), ["1: name: duplicate field"]);
        }
    }
}
