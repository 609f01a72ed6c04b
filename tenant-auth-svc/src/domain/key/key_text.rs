//! Which texts can be keys: 8 to 256 bytes, each a printable ASCII character other than the space.
//!
//! This is the only rule. A text that fits it is looked up, whoever issued it; a text that does not fit is
//! malformed, so no key of this kind can be imported. `tenantctl` compiles the same source file, so it hashes
//! and imports only what the service looks up.

use thiserror::Error;

/// Minimum length of a key, in bytes.
pub const MIN_LEN: usize = 8;
/// Maximum length of a key, in bytes.
pub const MAX_LEN: usize = 256;

/// Why a text cannot be a key. It never contains the text. The message completes the sentence "the value …".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidKeyText {
    /// It is shorter than [`MIN_LEN`].
    #[error("has {0} bytes: a key has at least {MIN_LEN}")]
    TooShort(usize),
    /// It is longer than [`MAX_LEN`].
    #[error("has {0} bytes: a key has at most {MAX_LEN}")]
    TooLong(usize),
    /// It contains a character that no key has.
    #[error("has {kind} as character {place}: a key has only printable ASCII characters, without spaces")]
    Character {
        /// Position in the text, from 1.
        place: usize,
        /// The kind of character.
        kind: &'static str,
    },
    /// It is a hash, and that of no text.
    #[error("is the SHA-256 of an empty text, which is no key")]
    HashOfNothing,
}

/// The SHA-256 of an empty text.
const HASH_OF_NOTHING: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
    0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// Checks that a text can be a key.
///
/// # Errors
/// When it is too short or too long, or contains a character that no key has.
pub fn check(text: &str) -> Result<(), InvalidKeyText> {
    // The length first, so that a long text is not read.
    match text.len() {
        len if len > MAX_LEN => Err(InvalidKeyText::TooLong(len)),
        len if len < MIN_LEN => Err(InvalidKeyText::TooShort(len)),
        _ => check_characters(text),
    }
}

/// Checks that a text can be the first characters of a key. It may be empty.
///
/// # Errors
/// When it contains a character that no key has.
pub fn check_characters(text: &str) -> Result<(), InvalidKeyText> {
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    match text.chars().enumerate().find(|(_, c)| !c.is_ascii_graphic()) {
        Some((index, c)) => Err(InvalidKeyText::Character { place: index + 1, kind: kind_of(c) }),
        None => Ok(()),
    }
}

/// Checks that a SHA-256 can be that of a key. An export of missing values has that of an empty text.
///
/// # Errors
/// When it is that of an empty text.
pub fn check_hash(sha256: &[u8; 32]) -> Result<(), InvalidKeyText> {
    if *sha256 == HASH_OF_NOTHING { Err(InvalidKeyText::HashOfNothing) } else { Ok(()) }
}

fn kind_of(c: char) -> &'static str {
    match c {
        '\n' | '\r' => "a line end",
        '\t' => "a tab",
        '\u{feff}' => "a byte order mark",
        c if c.is_whitespace() => "a space",
        c if c.is_control() => "a control character",
        _ => "a character outside ASCII",
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn hash_of_an_empty_text_is_that_of_no_key() {
        assert_eq!(check_hash(&Sha256::digest("").into()), Err(InvalidKeyText::HashOfNothing));
        assert_eq!(check_hash(&Sha256::digest("12345678").into()), Ok(()));
    }

    #[test]
    fn every_printable_ascii_character_can_be_in_a_key() {
        let all: String = ('!'..='~').collect();
        assert_eq!(check(&all), Ok(()));
        for c in (0..=255).map(char::from).filter(|c| !('!'..='~').contains(c)) {
            assert!(check(&format!("1234567{c}")).is_err(), "{c:?}");
        }
    }

    #[test]
    fn key_has_8_to_256_bytes() {
        assert_eq!(check("1234567"), Err(InvalidKeyText::TooShort(7)));
        assert_eq!(check("12345678"), Ok(()));
        assert_eq!(check(&"x".repeat(256)), Ok(()));
        assert_eq!(check(&"x".repeat(257)), Err(InvalidKeyText::TooLong(257)));
    }

    #[test]
    fn key_error_names_the_place_and_not_the_text() {
        let message = |text: &str| check(text).unwrap_err().to_string();
        let rule = "a key has only printable ASCII characters, without spaces";
        assert_eq!(message("canary-1\n"), format!("has a line end as character 9: {rule}"));
        assert_eq!(message(" canary-1"), format!("has a space as character 1: {rule}"));
        assert_eq!(message("canary\u{a0}1"), format!("has a space as character 7: {rule}"));
        assert_eq!(message("\u{feff}canary-1"), format!("has a byte order mark as character 1: {rule}"));
        assert_eq!(message("schlüssel"), format!("has a character outside ASCII as character 5: {rule}"));
        assert_eq!(message("canary\u{7f}1"), format!("has a control character as character 7: {rule}"));
    }

    #[test]
    fn first_characters_may_be_few_or_none() {
        assert_eq!(check_characters(""), Ok(()));
        assert_eq!(check_characters("sk"), Ok(()));
        assert!(check_characters("sk…").is_err());
    }
}
