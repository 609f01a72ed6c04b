//! Fuzz test of the deny-list parser.

use tenant_auth_testkit::fuzz::Language;

use super::*;

const LANGUAGE: Language = Language {
    seeds: &[
        b"key_0199 # leaked\ntenant:ten_1\n\nsha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF\n",
        b"# nothing\n",
    ],
    words: &[b"key_", b"tenant:", b"sha256:", b"#", b"\n", b"\r\n", b"\xc2\xa0", b" "],
};

#[test]
fn deny_list_parses_whole_or_names_the_first_bad_line() {
    LANGUAGE.check(|bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let lines: Vec<_> = text.lines().collect();
        match DenyList::parse(text) {
            Ok(list) => {
                let entries = lines.iter().filter(|line| !DenyList::parse(line).unwrap().is_empty()).count();
                assert!(list.counts().total() <= entries);
                assert_eq!(list.is_empty(), entries == 0);
            }
            Err(InvalidDenyLine(number)) => {
                assert!(DenyList::parse(&lines[..number - 1].join("\n")).is_ok());
                assert_eq!(DenyList::parse(lines[number - 1]), Err(InvalidDenyLine(1)));
            }
        }
    });
}
