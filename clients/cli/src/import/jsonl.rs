//! Parses JSON Lines: one JSON object per line.

use serde_json::{Map, Value};

use super::row::{COLUMNS, Cells, Problem, Row, unknown_column};

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
    let object: Map<String, Value> = serde_json::from_slice(bytes).map_err(|error| {
        // The message of the parser may repeat a value.
        let text = if error.is_data() {
            "must be a JSON object".to_owned()
        } else {
            format!("invalid JSON at character {}", error.column())
        };
        vec![Problem::for_row(line, text)]
    })?;
    let mut cells = Cells::default();
    let mut problems = Vec::new();
    for (name, value) in &object {
        let Some(column) = COLUMNS.into_iter().find(|column| *column == name) else {
            problems.push(Problem::for_row(line, unknown_column(name)));
            continue;
        };
        match (column, value) {
            (_, Value::Null) => {}
            (column, Value::String(text)) => {
                cells.set(column, text.trim());
            }
            ("scopes", Value::Array(scopes)) => match strings(scopes) {
                Some(scopes) => cells.scopes = scopes,
                None => problems.push(Problem::new(line, column, "must contain only strings")),
            },
            ("scopes", _) => {
                problems.push(Problem::new(line, column, "must be a string or an array of strings"));
            }
            (column, _) => problems.push(Problem::new(line, column, "must be a string")),
        }
    }
    if problems.is_empty() { cells.check(line, default_tenant) } else { Err(problems) }
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
        assert_eq!(problems("[1]"), ["1: must be a JSON object"]);
        assert_eq!(problems("{\"sha256\":"), ["1: invalid JSON at character 10"]);
        assert_eq!(problems("{\"sha256\":5}"), ["1: sha256: must be a string"]);
        assert_eq!(problems("{\"scopes\":[5]}"), ["1: scopes: must contain only strings"]);
        assert_eq!(problems("{\"scopes\":5}"), ["1: scopes: must be a string or an array of strings"]);
        assert!(problems("{\"key\":\"x\"}")[0].contains("never imported in plaintext"));
    }
}
