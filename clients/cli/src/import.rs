//! Parses files of keys to import.
//!
//! No message here repeats content of a file: it may contain a plaintext key in place of a hash.

mod csv;
mod digest;
mod duplicates;
mod encoding;
mod format;
mod jsonl;
/// The rule for keys: the file of the service itself, so that both agree.
#[path = "../../../tenant-auth-svc/src/domain/key/key_text.rs"]
#[allow(unreachable_pub, reason = "public in the service")]
pub(crate) mod key_text;
/// The rule for networks: the file of the service itself, so that both agree.
#[path = "../../../tenant-auth-svc/src/domain/network.rs"]
#[allow(unused_imports, dead_code, unreachable_pub, reason = "an import only checks networks")]
mod network;
mod row;
/// The rules for names: the file of the service itself, so that both agree.
#[path = "../../../tenant-auth-svc/src/domain/text.rs"]
#[allow(dead_code, unreachable_pub, reason = "an import uses only some of these texts")]
mod text;

pub(crate) use self::{
    format::Format,
    row::{Problem, Row},
    text::PrefixHint,
};

/// The keys of a file.
#[derive(Debug)]
pub(crate) struct KeyFile {
    /// Each key once, in the order of the lines.
    pub(crate) rows: Vec<Row>,
    /// Number of rows that repeat another row.
    pub(crate) repeated: usize,
}

/// Parses and checks a whole file. Rows without a tenant belong to `default_tenant`, unless that is empty.
///
/// # Errors
/// All problems of the file, in the order of its lines.
pub(crate) fn parse(bytes: &[u8], format: Format, default_tenant: &str) -> Result<KeyFile, Vec<Problem>> {
    let bytes = encoding::content(bytes).map_err(|problem| vec![problem])?;
    let (mut rows, mut problems) = match format {
        Format::Jsonl => jsonl::parse(bytes, default_tenant),
        Format::Auto | Format::Csv => csv::parse(bytes, default_tenant),
    };
    let repeated = duplicates::remove(&mut rows).unwrap_or_else(|found| {
        problems.extend(found);
        0
    });
    problems.sort_by_key(Problem::line);
    if problems.is_empty() { Ok(KeyFile { rows, repeated }) } else { Err(problems) }
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
    fn key_listed_twice_is_read_once_or_rejected() {
        let digest = sha256_of_digit('0');
        let file = |first: &str, second: &str| {
            let header = "tenant_id,scopes,name,sha256";
            let other = sha256_of_digit('1');
            format!("{header}\n{first},{digest}\na,,,{other}\n{second},{digest}\n")
        };
        let read = |second: &str| parse(file("a,x y,n", second).as_bytes(), Format::Csv, "");
        let same = read("a,y;x;x,n").unwrap();
        assert_eq!(same.rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(same.repeated, 1);
        for (second, problem) in [
            ("b,x y,n", "4: sha256: duplicate key: line 2 has it for another tenant"),
            ("a,x,n", "4: sha256: duplicate key: line 2 has it with another scopes"),
            ("a,x,", "4: sha256: duplicate key: line 2 has it with another name, scopes"),
        ] {
            let problems = read(second).unwrap_err();
            assert_eq!(problems.iter().map(Problem::to_string).collect::<Vec<_>>(), [problem]);
        }
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
        let csv = parse(csv.as_bytes(), Format::Csv, "").unwrap().rows;
        let jsonl = parse(jsonl.as_bytes(), Format::Jsonl, "").unwrap().rows;
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
            "sha256;ta_canary,ta_canary\n",
            "sha256,name\n\"ta_canary\nta_canary,ta_canary\n",
            "sha256,prefix_hint\nta_canary_1234,ta_canary_1234\nta_canary,ta canary\n",
            "{\"ta_canary\":1,\"TA_CANARY\":1,\"sha256\":\"ta_canary\",\"SHA256\":\"ta_canary\"}",
            "[{\"sha256\":\"ta_canary\"}]",
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
