//! The format of keys: `<prefix>_<30 base62 random digits><6 base62 digits of CRC-32>`.
//!
//! The checksum is no security feature. It allows typing errors and random scanner input to be rejected
//! without a lookup.

use thiserror::Error;

use super::{BorrowedKey, PresentedKey, hash::KeyHash};
use crate::domain::text::PrefixHint;

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
/// Allowed length of an imported key, in bytes.
const FOREIGN_KEY_LENGTHS: std::ops::RangeInclusive<usize> = 8..=256;

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
}

impl ParsedKey {
    /// Returns the hash for the lookup.
    #[must_use]
    pub fn hash(self) -> KeyHash {
        match self {
            Self::Own(hash) | Self::Foreign(hash) => hash,
        }
    }
}

/// Why a text cannot be a key. It never contains the text.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum MalformedKey {
    /// It has our prefix but not our length.
    #[error("has our prefix and a wrong length")]
    WrongLength,
    /// It has our prefix but contains a character that is not a base-62 digit.
    #[error("has our prefix and a character outside 0-9 A-Z a-z")]
    InvalidDigit,
    /// It has our prefix but a wrong checksum.
    #[error("has our prefix and a wrong checksum")]
    WrongChecksum,
    /// It is too short or too long for any key.
    #[error("is shorter than 8 or longer than 256 bytes")]
    ForeignLength,
    /// It contains a space, a control character or a character outside ASCII.
    #[error("holds a character that is not printable ASCII")]
    ForeignCharacter,
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
    pub fn parse<'a>(&self, key: impl Into<BorrowedKey<'a>>) -> Result<ParsedKey, MalformedKey> {
        let key = key.into();
        let text = key.expose();
        let own_body = text.strip_prefix(&*self.prefix).and_then(|rest| rest.strip_prefix('_'));
        match own_body {
            Some(body) => {
                check_own(text, body)?;
                Ok(ParsedKey::Own(KeyHash::of(key)))
            }
            None => {
                check_foreign(text)?;
                Ok(ParsedKey::Foreign(KeyHash::of(key)))
            }
        }
    }

    /// Returns the first characters of a key issued here: enough to recognise it, too few to guess it.
    #[must_use]
    pub fn prefix_hint(&self, key: &PresentedKey) -> PrefixHint {
        let hint_len = self.prefix.len() + 1 + HINT_RANDOM_DIGITS;
        PrefixHint::shortened(key.expose().chars().take(hint_len))
    }
}

fn check_own(text: &str, body: &str) -> Result<(), MalformedKey> {
    if body.len() != RANDOM_DIGITS + CHECKSUM_DIGITS {
        return Err(MalformedKey::WrongLength);
    }
    if !body.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(MalformedKey::InvalidDigit);
    }
    let (checked, checksum) = text.as_bytes().split_at(text.len() - CHECKSUM_DIGITS);
    if checksum == checksum_digits(crc32fast::hash(checked)) {
        Ok(())
    } else {
        Err(MalformedKey::WrongChecksum)
    }
}

fn check_foreign(text: &str) -> Result<(), MalformedKey> {
    if !FOREIGN_KEY_LENGTHS.contains(&text.len()) {
        return Err(MalformedKey::ForeignLength);
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(MalformedKey::ForeignCharacter);
    }
    Ok(())
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

    fn inspect(text: &str) -> Result<ParsedKey, MalformedKey> {
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
    fn malformed_keys_are_rejected_with_reason() {
        assert_eq!(inspect("acme_live_short"), Err(MalformedKey::WrongLength));
        assert_eq!(inspect(&format!("acme_live_{}", "-".repeat(36))), Err(MalformedKey::InvalidDigit));
        assert_eq!(inspect(&format!("acme_live_{}", "a".repeat(36))), Err(MalformedKey::WrongChecksum));
        assert_eq!(inspect("short"), Err(MalformedKey::ForeignLength));
        assert_eq!(inspect(&"x".repeat(257)), Err(MalformedKey::ForeignLength));
        assert_eq!(inspect("with a space in it"), Err(MalformedKey::ForeignCharacter));
        assert_eq!(inspect("schlüssel-von-früher"), Err(MalformedKey::ForeignCharacter));
        assert!(matches!(inspect("sk_live_51H8abc"), Ok(ParsedKey::Foreign(_))));
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
        /// Any single wrong character is detected: after the prefix as malformed, in the prefix as not issued
        /// here.
        #[test]
        fn checksum_detects_single_character_changes(at in 0..46_usize, to in any::<char>()) {
            let key = format().generate().unwrap();
            let mut chars: Vec<char> = key.expose().chars().collect();
            prop_assume!(chars[at] != to);
            chars[at] = to;
            let changed: String = chars.into_iter().collect();
            let parsed = inspect(&changed);
            if at >= "acme_live_".len() {
                prop_assert!(parsed.is_err());
            } else {
                prop_assert!(!matches!(parsed, Ok(ParsedKey::Own(_))));
            }
        }

        #[test]
        fn checksum_detects_swapped_neighbours(at in 10..45_usize) {
            let key = format().generate().unwrap();
            let mut chars: Vec<char> = key.expose().chars().collect();
            prop_assume!(chars[at] != chars[at + 1]);
            chars.swap(at, at + 1);
            prop_assert_eq!(inspect(&chars.into_iter().collect::<String>()), Err(MalformedKey::WrongChecksum));
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
