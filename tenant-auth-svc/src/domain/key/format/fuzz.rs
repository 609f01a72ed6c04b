//! Fuzz test of the key parser.

use tenant_auth_testkit::fuzz::Language;

use super::*;

const LANGUAGE: Language = Language {
    seeds: &[
        b"ta_0123456789ABCDEFGHIJKLMNOPQRST29qLmv",
        b"ta_ZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ4GFfc3",
        b"sk_live_51H8abcdefghijklmnop",
        b"12345678",
    ],
    words: &[b"ta_", b"ta", b"_", b" ", b"\n", b"\xff", "\u{e9}".as_bytes(), b"0000000000"],
};

/// An independent implementation of the parser; `None` if the text is not a key.
fn expected_parse(text: &str) -> Option<ParsedKey> {
    let hash = KeyHash::of(BorrowedKey::new(text));
    if !(8..=256).contains(&text.len()) || !text.chars().all(|c| ('!'..='~').contains(&c)) {
        return None;
    }
    let Some(rest) = text.strip_prefix("ta_") else { return Some(ParsedKey::Foreign(hash)) };
    Some(if has_checksum(rest) { ParsedKey::Own(hash) } else { ParsedKey::Damaged(hash) })
}

fn has_checksum(body: &str) -> bool {
    if body.len() != 36 || !body.chars().all(|c| c.is_ascii_alphanumeric()) {
        return false;
    }
    let (random, checksum) = body.split_at(30);
    let digit = |c: char| ALPHABET.iter().position(|known| char::from(*known) == c);
    let value = checksum.chars().try_fold(0_u64, |value, c| Some(value * 62 + digit(c)? as u64));
    value == Some(u64::from(crc32fast::hash(format!("ta_{random}").as_bytes())))
}

#[test]
fn parser_agrees_with_reference_implementation() {
    let format = KeyFormat::new("ta").unwrap();
    LANGUAGE.check(|bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        assert_eq!(format.parse(BorrowedKey::new(text)).ok(), expected_parse(text));
        // The same text with a correct checksum.
        let own = format!("ta_{}", text.chars().take(30).collect::<String>());
        let own = format!("{own}{}", String::from_utf8_lossy(&checksum_digits(own.as_bytes())));
        assert_eq!(format.parse(BorrowedKey::new(&own)).ok(), expected_parse(&own));
    });
}
