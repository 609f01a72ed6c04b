//! Fuzz test of the pepper-file parser.

use tenant_auth_testkit::fuzz::Language;

use super::*;

const LANGUAGE: Language = Language {
    seeds: &[
        b"2026 0123456789abcdefghijklmnopqrstuv\n",
        b"# a comment\nissue new 0123456789abcdefghijklmnopqrstuv\naccept old ABCDEFGHIJKLMNOPQRSTUVWXYZ012345\n",
        b"issue none\naccept first 0123456789abcdefghijklmnopqrstuv\n",
    ],
    words: &[b"issue ", b"accept ", b"none", b"\n", b"\r\n", b"#", b"\t", b" x ", b"0123456789abcdefghijklmnopqrstuv"],
};

#[test]
fn pepper_file_parses_or_error_names_line() {
    LANGUAGE.check(|bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let lines = text.lines().count();
        match Peppers::parse(text) {
            Ok(peppers) => {
                let ids: std::collections::BTreeSet<_> = peppers.ids().collect();
                assert!((1..=2).contains(&ids.len()));
                assert_eq!(peppers.candidate_count(), ids.len() + 1);
                let hash = KeyHash::from_bytes([7; 32]);
                let stored = peppers.stored_hash(&hash);
                assert!(
                    peppers.candidates(&hash).any(|candidate| candidate == stored),
                    "a stored key is found"
                );
            }
            Err(error) => {
                let message = error.to_string();
                let secrets = text.split_whitespace().filter(|word| word.len() > 32);
                secrets.for_each(|secret| assert!(!message.contains(secret), "{message}"));
                if let InvalidPepper::InvalidLine(line)
                | InvalidPepper::SecretTooShort(line)
                | InvalidPepper::MultipleIssuers(line) = error
                {
                    assert!((1..=lines).contains(&line), "{message}");
                }
            }
        }
    });
}
