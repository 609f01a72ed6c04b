//! The layout of the keys issued here: `<prefix>_<30 base62 random digits><6 base62 digits of CRC-32>`.
//!
//! `tenantctl` compiles the same source file, so a key that its scan finds is one that the service could have
//! issued. It names nothing else of this crate.

use thiserror::Error;

pub(super) const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 30 base-62 digits have 178 bits.
pub(super) const RANDOM_DIGITS: usize = 30;
/// 62^6 is greater than 2^32.
const CHECKSUM_DIGITS: usize = 6;
/// Maximum length of a key issued here: SHA-256 processes it in one block of 64 bytes, including its padding.
pub(super) const MAX_OWN_KEY_LEN: usize = 55;
const MAX_PREFIX_LEN: usize = MAX_OWN_KEY_LEN - 1 - RANDOM_DIGITS - CHECKSUM_DIGITS;
/// Number of random digits in a hint.
const HINT_RANDOM_DIGITS: usize = 4;

/// The layout of the keys with one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyLayout {
    /// The prefix and the underscore after it.
    lead: Box<str>,
}

/// Why a text with our prefix is not a key issued here. It never contains the text.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum MalformedOwnKey {
    /// It does not have our length.
    #[error("has our prefix and a wrong length")]
    WrongLength,
    /// It contains a character that is not a base-62 digit.
    #[error("has our prefix and a character outside 0-9 A-Z a-z")]
    InvalidDigit,
    /// It has a wrong checksum.
    #[error("has our prefix and a wrong checksum")]
    WrongChecksum,
}

/// Why a text is not a valid key prefix. The message completes the sentence "the value …".
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("must be 1 to {MAX_PREFIX_LEN} characters of a-z 0-9 _, start with a letter and not end with _")]
pub struct InvalidPrefix;

impl KeyLayout {
    /// Creates the layout for a prefix of 1 to 18 characters of `a-z 0-9 _`, such as `acme_live`.
    ///
    /// # Errors
    /// When the prefix is invalid.
    pub(crate) fn new(prefix: &str) -> Result<Self, InvalidPrefix> {
        let fits = (1..=MAX_PREFIX_LEN).contains(&prefix.len())
            && prefix.starts_with(|c: char| c.is_ascii_lowercase())
            && !prefix.ends_with('_')
            && prefix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !fits {
            return Err(InvalidPrefix);
        }
        Ok(Self { lead: format!("{prefix}_").into() })
    }

    /// Returns the prefix and the underscore after it: the first characters of every key.
    pub(crate) fn lead(&self) -> &str {
        &self.lead
    }

    /// Returns the length of a key, in bytes.
    pub(crate) fn key_len(&self) -> usize {
        self.lead.len() + RANDOM_DIGITS + CHECKSUM_DIGITS
    }

    /// Returns how many of the first characters of a key may be shown: enough to recognise it, too few to
    /// guess it.
    pub(crate) fn hint_len(&self) -> usize {
        self.lead.len() + HINT_RANDOM_DIGITS
    }

    /// Checks the digits and the checksum of a text. Returns `None` if it does not have our prefix.
    pub(crate) fn check(&self, text: &[u8]) -> Option<Result<(), MalformedOwnKey>> {
        let digits = text.strip_prefix(self.lead.as_bytes())?;
        Some(check_digits(text, digits))
    }
}

fn check_digits(text: &[u8], digits: &[u8]) -> Result<(), MalformedOwnKey> {
    if digits.len() != RANDOM_DIGITS + CHECKSUM_DIGITS {
        return Err(MalformedOwnKey::WrongLength);
    }
    if !digits.iter().all(u8::is_ascii_alphanumeric) {
        return Err(MalformedOwnKey::InvalidDigit);
    }
    let (checked, checksum) = text.split_at(text.len() - CHECKSUM_DIGITS);
    if checksum == checksum_digits(checked) { Ok(()) } else { Err(MalformedOwnKey::WrongChecksum) }
}

/// Returns the last digits of a key with these first characters.
pub(super) fn checksum_digits(checked: &[u8]) -> [u8; CHECKSUM_DIGITS] {
    let mut checksum = crc32fast::hash(checked);
    let mut digits = [b'0'; CHECKSUM_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(checksum % 62) as usize];
        checksum /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_accepts_a_known_key() {
        let layout = KeyLayout::new("ta").unwrap();
        // In parts, so that this file has no key in it.
        let key = ["ta_", &"Z".repeat(RANDOM_DIGITS), "25Qs59"].concat();
        assert_eq!((layout.lead(), layout.key_len(), layout.hint_len()), ("ta_", key.len(), 7));
        assert_eq!(layout.check(key.as_bytes()), Some(Ok(())));
        assert_eq!(layout.check(b"tb_ZZZZ"), None);
    }

    #[test]
    fn layout_rejects_text_with_reason() {
        let layout = KeyLayout::new("ta").unwrap();
        let reason = |text: &str| layout.check(text.as_bytes()).unwrap().unwrap_err();
        assert_eq!(reason("ta_ZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ25Qs5"), MalformedOwnKey::WrongLength);
        assert_eq!(reason("ta_ZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ25Qs5_"), MalformedOwnKey::InvalidDigit);
        assert_eq!(reason("ta_ZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ25Qs50"), MalformedOwnKey::WrongChecksum);
    }

    #[test]
    fn invalid_prefixes_are_rejected() {
        for bad in ["", "Acme", "1a", "a_", "a-b", "abcdefghijklmnopqrs"] {
            assert_eq!(KeyLayout::new(bad).err(), Some(InvalidPrefix), "{bad:?}");
        }
    }
}
