//! Parses files of keys to import.
//!
//! No message here repeats content of a file: it may contain a plaintext key in place of a hash.

mod csv;
mod format;
mod jsonl;
mod row;
/// The rules for names: the file of the service itself, so that both agree.
#[path = "../../../tenant-auth-svc/src/domain/text.rs"]
#[allow(dead_code, unreachable_pub, reason = "an import uses only some of these texts")]
mod text;

use std::collections::{HashMap, hash_map::Entry};

pub(crate) use self::{
    format::Format,
    row::{Problem, Row},
    text::PrefixHint,
};

/// Parses and checks a whole file. Rows without a tenant belong to `default_tenant`, unless that is empty.
///
/// # Errors
/// All problems of the file, in the order of its lines.
pub(crate) fn parse(bytes: &[u8], format: Format, default_tenant: &str) -> Result<Vec<Row>, Vec<Problem>> {
    // Spreadsheets write a byte order mark at the start.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let (rows, mut problems) = match format {
        Format::Jsonl => jsonl::parse(bytes, default_tenant),
        Format::Auto | Format::Csv => csv::parse(bytes, default_tenant),
    };
    problems.extend(tenant_conflicts(&rows));
    problems.sort_by_key(Problem::line);
    if problems.is_empty() { Ok(rows) } else { Err(problems) }
}

/// Finds keys that are listed for two tenants: the service would reject one of them.
fn tenant_conflicts(rows: &[Row]) -> Vec<Problem> {
    let mut seen: HashMap<&[u8], &Row> = HashMap::new();
    let mut problems = Vec::new();
    for row in rows {
        match seen.entry(&row.key.sha256) {
            Entry::Vacant(entry) => {
                entry.insert(row);
            }
            Entry::Occupied(first) if first.get().key.tenant_id != row.key.tenant_id => {
                let text = format!("duplicate key: line {} has it for another tenant", first.get().line);
                problems.push(Problem::new(row.line, "sha256", text));
            }
            Entry::Occupied(_) => {}
        }
    }
    problems
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sha256_of_digit(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    #[test]
    fn key_listed_for_two_tenants_is_rejected() {
        let file = |second: &str| format!("tenant_id,sha256\na,{0}\n{second},{0}\n", sha256_of_digit('0'));
        assert_eq!(parse(file("a").as_bytes(), Format::Csv, "").unwrap().len(), 2);
        let problems = parse(file("b").as_bytes(), Format::Csv, "").unwrap_err();
        assert_eq!(problems[0].to_string(), "3: sha256: duplicate key: line 2 has it for another tenant");
    }

    #[test]
    fn csv_and_jsonl_give_the_same_rows() {
        let sha = sha256_of_digit('f');
        let csv = format!(
            "\u{feff}sha256,scopes,tenant_id,name,prefix_hint,created_at,expires_at\n\
             {sha},a b; c,t,n,p,2020-01-01T00:00:00Z,2030-01-01T00:00:00Z\n"
        );
        let jsonl = format!(
            "\u{feff}{{\"tenant_id\":\"t\",\"sha256\":\"{sha}\",\"name\":\"n\",\"prefix_hint\":\"p\",\
             \"scopes\":[\"a\",\"b\",\"c\"],\"created_at\":\"2020-01-01T00:00:00Z\",\
             \"expires_at\":\"2030-01-01T00:00:00Z\"}}\n"
        );
        let csv = parse(csv.as_bytes(), Format::Csv, "").unwrap();
        let jsonl = parse(jsonl.as_bytes(), Format::Jsonl, "").unwrap();
        assert_eq!(csv[0].key, jsonl[0].key);
        assert_eq!(csv[0].key.scopes, ["a", "b", "c"]);
        assert_eq!((csv[0].line, jsonl[0].line), (2, 1));
    }

    #[test]
    fn messages_never_repeat_file_content() {
        let files = [
            "tenant_id,sha256\nt,ta_canary\n",
            "tenant_id,sha256,expires_at\nt,ta_canary,ta_canary\n",
            "tenant_id,sha256,scopes,name\nTA_CANARY!,0,TA_CANARY,ta_canary\u{1}\n",
            "\"ta_canary\"\n",
            "{\"sha256\":\"ta_canary\",\"scopes\":{\"ta_canary\":1},\"tenant_id\":[\"ta_canary\"]}",
            "ta_canary",
        ];
        for file in files {
            for format in [Format::Csv, Format::Jsonl] {
                let problems = parse(file.as_bytes(), format, "").unwrap_err();
                let messages: Vec<_> = problems.iter().map(Problem::to_string).collect();
                assert!(!messages.join(" ").to_lowercase().contains("canary"), "{messages:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in any::<Vec<u8>>()) {
            let _ = parse(&bytes, Format::Csv, "t");
            let _ = parse(&bytes, Format::Jsonl, "");
        }

        #[test]
        fn nearly_right_files_never_panic(body in "[\"{}:,;a-f0-9TZ \n\r\\[\\]-]{0,300}") {
            let csv = format!("sha256,tenant_id,scopes,expires_at\n{body}");
            let _ = parse(csv.as_bytes(), Format::Csv, "");
            let _ = parse(format!("{{\"sha256\":{body}").as_bytes(), Format::Jsonl, "");
        }
    }
}
