//! The format of keys: `<prefix>_<30 base62 random digits><6 base62 digits of CRC-32>`.
//!
//! The checksum is no security feature. It tells a typing error from a key that was never issued. It does not
//! decide whether a text is looked up: a key of another system may begin with the same prefix, and is imported
//! by its hash alone.

use thiserror::Error;

use super::{
    BorrowedKey, PresentedKey,
    hash::KeyHash,
    key_text::{self, InvalidKeyText},
};
use crate::domain::{text::PrefixHint, verdict::Verdict};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 30 base-62 digits have 178 bits.
const RANDOM_DIGITS: usize = 30;
/// 62^6 is greater than 2^32.
const CHECKSUM_DIGITS: usize = 6;
/// Maximum length of a key issued here: SHA-256 processes it in one block of 64 bytes, including its padding.
const MAX_OWN_KEY_LEN: usize = 55;
const MAX_PREFIX_LEN: usize = MAX_OWN_KEY_LEN - 1 - RANDOM_DIGITS - CHECKSUM_DIGITS;
/// Number of random digits in a hint.
const HINT_RANDOM_DIGITS: usize = 4;

/// The format of the keys issued here, with their prefix.
#[derive(Clone, Debug)]
pub struct KeyFormat {
    prefix: Box<str>,
}

/// The hash of a text that may be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParsedKey {
    /// A key issued here: prefix and checksum are correct.
    Own(KeyHash),
    /// Possibly an imported key.
    Foreign(KeyHash),
    /// It has our prefix but not our format: an imported key, or else malformed.
    Damaged(KeyHash),
}

impl ParsedKey {
    /// Returns the hash for the lookup.
    #[must_use]
    pub fn hash(self) -> KeyHash {
        match self {
            Self::Own(hash) | Self::Foreign(hash) | Self::Damaged(hash) => hash,
        }
    }

    /// Returns the verdict if the lookup finds no key.
    #[must_use]
    pub fn verdict_if_not_found(self) -> Verdict {
        match self {
            Self::Own(_) | Self::Foreign(_) => Verdict::Unknown,
            Self::Damaged(_) => Verdict::Malformed,
        }
    }
}

/// Why a text is not a valid key prefix. The message completes the sentence "the value …".
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("must be 1 to {MAX_PREFIX_LEN} characters of a-z 0-9 _, start with a letter and not end with _")]
pub struct InvalidPrefix;

/// The operating system has no random bytes, so no key can be generated.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the operating system gave no random bytes")]
pub struct RandomnessUnavailable;

impl KeyFormat {
    /// Creates the format for a prefix of 1 to 18 characters of `a-z 0-9 _`, such as `acme_live`.
    ///
    /// # Errors
    /// When the prefix is invalid.
    pub fn new(prefix: &str) -> Result<Self, InvalidPrefix> {
        let fits = (1..=MAX_PREFIX_LEN).contains(&prefix.len())
            && prefix.starts_with(|c: char| c.is_ascii_lowercase())
            && !prefix.ends_with('_')
            && prefix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !fits {
            return Err(InvalidPrefix);
        }
        Ok(Self { prefix: prefix.into() })
    }

    /// Generates a key.
    ///
    /// # Errors
    /// When the operating system has no random bytes.
    pub fn generate(&self) -> Result<PresentedKey, RandomnessUnavailable> {
        // Capacity for the whole key: a reallocation would leave a copy of its beginning in freed memory.
        let mut key = String::with_capacity(MAX_OWN_KEY_LEN);
        key.push_str(&self.prefix);
        key.push('_');
        let mut missing = RANDOM_DIGITS;
        while missing > 0 {
            let mut bytes = zeroize::Zeroizing::new([0_u8; RANDOM_DIGITS]);
            getrandom::fill(bytes.as_mut_slice()).map_err(|_| RandomnessUnavailable)?;
            // Byte values from 248 on would make the first digits of the alphabet more likely than the
            // others.
            for byte in bytes.iter().filter(|byte| **byte < 248).take(missing) {
                key.push(char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]));
                missing -= 1;
            }
        }
        let checksum = crc32fast::hash(key.as_bytes());
        key.extend(checksum_digits(checksum).map(char::from));
        Ok(PresentedKey::new(key))
    }

    /// Checks the format of a text and hashes it, without a lookup.
    ///
    /// # Errors
    /// When the text cannot be a key.
    pub fn parse<'a>(&self, key: impl Into<BorrowedKey<'a>>) -> Result<ParsedKey, InvalidKeyText> {
        let key = key.into();
        let text = key.expose();
        let own_body = text.strip_prefix(&*self.prefix).and_then(|rest| rest.strip_prefix('_'));
        // Our format is narrower than the rule for all keys, so that is not checked as well.
        if own_body.is_some_and(|body| is_own(text, body)) {
            return Ok(ParsedKey::Own(KeyHash::of(key)));
        }
        key_text::check(text)?;
        let hash = KeyHash::of(key);
        Ok(if own_body.is_some() { ParsedKey::Damaged(hash) } else { ParsedKey::Foreign(hash) })
    }

    /// Returns the first characters of a key issued here: enough to recognise it, too few to guess it.
    #[must_use]
    pub fn prefix_hint(&self, key: &PresentedKey) -> PrefixHint {
        let hint_len = self.prefix.len() + 1 + HINT_RANDOM_DIGITS;
        PrefixHint::shortened(key.expose().chars().take(hint_len))
    }
}

/// Whether a text with our prefix has the format of the keys issued here.
fn is_own(text: &str, body: &str) -> bool {
    if body.len() != RANDOM_DIGITS + CHECKSUM_DIGITS || !body.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return false;
    }
    let (checked, checksum) = text.as_bytes().split_at(text.len() - CHECKSUM_DIGITS);
    checksum == checksum_digits(crc32fast::hash(checked))
}

fn checksum_digits(mut checksum: u32) -> [u8; CHECKSUM_DIGITS] {
    let mut digits = [b'0'; CHECKSUM_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(checksum % 62) as usize];
        checksum /= 62;
    }
    digits
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn format() -> KeyFormat {
        KeyFormat::new("acme_live").unwrap()
    }

    fn inspect(text: &str) -> Result<ParsedKey, InvalidKeyText> {
        format().parse(&PresentedKey::new(text.to_owned()))
    }

    #[test]
    fn generated_key_parses_as_own() {
        for prefix in ["a", "ta", "acme_live", "abcdefghijklmnopqr"] {
            let format = KeyFormat::new(prefix).unwrap();
            for _ in 0..200 {
                let key = format.generate().unwrap();
                assert!(key.expose().len() <= MAX_OWN_KEY_LEN);
                assert_eq!(format.parse(&key), Ok(ParsedKey::Own(KeyHash::of(&key))));
            }
        }
    }

    #[test]
    fn generated_keys_are_unique() {
        let keys: std::collections::HashSet<_> =
            (0..1_000).map(|_| format().generate().unwrap().expose().to_owned()).collect();
        assert_eq!(keys.len(), 1_000);
    }

    #[test]
    fn text_that_cannot_be_a_key_is_rejected_with_reason() {
        assert_eq!(inspect("short"), Err(InvalidKeyText::TooShort(5)));
        assert_eq!(inspect(&"x".repeat(257)), Err(InvalidKeyText::TooLong(257)));
        for text in ["with a space in it", "schlüssel-von-früher", "acme_live_ü", "acme_live_with space"] {
            assert!(matches!(inspect(text), Err(InvalidKeyText::Character { .. })), "{text}");
        }
        assert!(matches!(inspect("sk_live_51H8abc"), Ok(ParsedKey::Foreign(_))));
    }

    #[test]
    fn text_with_own_prefix_and_another_format_is_looked_up() {
        let wrong = ["short".to_owned(), "-".repeat(36), "a".repeat(36), String::new()];
        for text in wrong.map(|body| format!("acme_live_{body}")) {
            let parsed = inspect(&text).unwrap();
            assert_eq!(parsed, ParsedKey::Damaged(KeyHash::of(BorrowedKey::new(&text))));
            assert_eq!(parsed.verdict_if_not_found(), Verdict::Malformed);
        }
    }

    #[test]
    fn hint_shows_prefix_and_four_digits() {
        let key = format().generate().unwrap();
        let hint = format().prefix_hint(&key);
        assert!(key.expose().starts_with(hint.as_str()));
        assert_eq!(hint.as_str().len(), "acme_live_".len() + 4);
    }

    #[test]
    fn invalid_prefixes_are_rejected() {
        for bad in ["", "Acme", "1a", "a_", "a-b", "abcdefghijklmnopqrs"] {
            assert_eq!(KeyFormat::new(bad).err(), Some(InvalidPrefix), "{bad:?}");
        }
    }

    proptest! {
        /// Any single wrong character is detected: none makes another key of ours.
        #[test]
        fn checksum_detects_single_character_changes(at in 0..46_usize, to in any::<char>()) {
            let key = format().generate().unwrap();
            let mut chars: Vec<char> = key.expose().chars().collect();
            prop_assume!(chars[at] != to);
            chars[at] = to;
            let changed: String = chars.into_iter().collect();
            prop_assert!(!matches!(inspect(&changed), Ok(ParsedKey::Own(_))));
        }

        #[test]
        fn checksum_detects_swapped_neighbours(at in 10..45_usize) {
            let key = format().generate().unwrap();
            let mut chars: Vec<char> = key.expose().chars().collect();
            prop_assume!(chars[at] != chars[at + 1]);
            chars.swap(at, at + 1);
            let swapped = inspect(&chars.into_iter().collect::<String>());
            prop_assert!(matches!(swapped, Ok(ParsedKey::Damaged(_))));
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>(), tail in any::<String>()) {
            let _ = inspect(&text);
            let _ = inspect(&format!("acme_live_{tail}"));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = inspect(&String::from_utf8_lossy(&bytes));
        }
    }
}
