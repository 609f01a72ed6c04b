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
}

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
    use super::*;

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
