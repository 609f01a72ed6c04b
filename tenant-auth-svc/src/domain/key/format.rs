//! The format of keys: those issued here have the layout in `layout`; imported ones have any shape.
//!
//! The checksum is no security feature. It allows typing errors and random scanner input to be rejected
//! without a lookup.

mod layout;

use thiserror::Error;

use self::layout::{ALPHABET, KeyLayout, RANDOM_DIGITS, checksum_digits};
pub use self::layout::{InvalidPrefix, MalformedOwnKey};
use super::{BorrowedKey, PresentedKey, hash::KeyHash};
use crate::domain::text::PrefixHint;

/// Allowed length of an imported key, in bytes.
const FOREIGN_KEY_LENGTHS: std::ops::RangeInclusive<usize> = 8..=256;

/// The format of the keys issued here, with their prefix.
#[derive(Clone, Debug)]
pub struct KeyFormat {
    layout: KeyLayout,
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
    /// It has our prefix but is not a key issued here.
    #[error(transparent)]
    Own(#[from] MalformedOwnKey),
    /// It is too short or too long for any key.
    #[error("is shorter than 8 or longer than 256 bytes")]
    ForeignLength,
    /// It contains a space, a control character or a character outside ASCII.
    #[error("holds a character that is not printable ASCII")]
    ForeignCharacter,
}

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
        Ok(Self { layout: KeyLayout::new(prefix)? })
    }

    /// Generates a key.
    ///
    /// # Errors
    /// When the operating system has no random bytes.
    pub fn generate(&self) -> Result<PresentedKey, RandomnessUnavailable> {
        // Capacity for the whole key: a reallocation would leave a copy of its beginning in freed memory.
        let mut key = String::with_capacity(self.layout.key_len());
        key.push_str(self.layout.lead());
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
        let checksum = checksum_digits(key.as_bytes());
        key.extend(checksum.map(char::from));
        Ok(PresentedKey::new(key))
    }

    /// Checks the format of a text and hashes it, without a lookup.
    ///
    /// # Errors
    /// When the text cannot be a key.
    pub fn parse<'a>(&self, key: impl Into<BorrowedKey<'a>>) -> Result<ParsedKey, MalformedKey> {
        let key = key.into();
        let text = key.expose();
        match self.layout.check(text.as_bytes()) {
            Some(checked) => {
                checked?;
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
        PrefixHint::shortened(key.expose().chars().take(self.layout.hint_len()))
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

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{layout::MAX_OWN_KEY_LEN, *};

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
        assert_eq!(inspect("acme_live_short"), Err(MalformedKey::Own(MalformedOwnKey::WrongLength)));
        assert_eq!(
            inspect(&format!("acme_live_{}", "-".repeat(36))),
            Err(MalformedKey::Own(MalformedOwnKey::InvalidDigit))
        );
        assert_eq!(
            inspect(&format!("acme_live_{}", "a".repeat(36))),
            Err(MalformedKey::Own(MalformedOwnKey::WrongChecksum))
        );
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
            prop_assert_eq!(inspect(&chars.into_iter().collect::<String>()), Err(MalformedKey::Own(MalformedOwnKey::WrongChecksum)));
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
