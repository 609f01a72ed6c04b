//! Fuzzing of import files.

use tenant_auth_testkit::fuzz::Language;

use super::*;

const LANGUAGE: Language = Language {
    seeds: &[
        b"sha256,tenant_id,name,prefix_hint,scopes,created_at,expires_at\n0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef,t,n,p,a b; c,2020-01-01T00:00:00Z,2030-01-01T00:00:00Z\n",
        b"\xef\xbb\xbfsha256\n\n0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\nta_plaintext_canary\n",
        b"SHA256;Name;scopes\r\n+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=;n;a b\r\n;;\r\n",
        b"tenant_id,sha256\na,\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"\nb,0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n",
        b"{\"tenant_id\":\"t\",\"sha256\":\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\",\"scopes\":[\"a\"],\"expires_at\":\"2030-01-01T00:00:00Z\"}\n{\"sha256\":\"ta_plaintext_canary\"}\n",
    ],
    words: &[
        b"ta_plaintext_canary", b"\"", b",", b"\n", b"\r\n", b"\r", b"sha256", b"tenant_id,", b";", b"\xff", b"\xff\xfe", b"\0", b"\t", b"{", b"}", b":", b"[", b"]",
        b"\"sha256\":", b"2020-01-01T00:00:00Z", b"\xef\xbb\xbf",
    ],
};

#[test]
fn import_parses_or_names_wrong_lines_only() {
    LANGUAGE.check(|bytes| {
        // Both \n and \r count as line ends, as the parsers count them.
        let lines = 1
            + bytes.iter().filter(|byte| **byte == b'\n').count() as u64
            + bytes.iter().filter(|byte| **byte == b'\r').count() as u64;
        for format in [Format::Csv, Format::Jsonl] {
            match parse(bytes, format, "t") {
                Ok(KeyFile { rows, .. }) => {
                    for row in &rows {
                        assert_eq!(row.key.sha256.len(), 32);
                        assert!((1..=lines).contains(&row.line));
                        assert!(!row.key.tenant_id.is_empty() && row.key.tenant_id.len() <= 64);
                    }
                    assert!(rows.is_sorted_by_key(|row| row.line));
                }
                Err(problems) => {
                    assert!(!problems.is_empty());
                    assert!(problems.is_sorted_by_key(Problem::line));
                    for problem in problems {
                        assert!((1..=lines).contains(&problem.line()), "{problem}");
                        assert!(!problem.to_string().contains("canary"), "{problem}");
                    }
                }
            }
        }
    });
}
