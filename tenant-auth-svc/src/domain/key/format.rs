//! The format of keys: those issued here have the layout in `layout`; imported ones have any shape.
//!
//! The checksum is no security feature. It tells a typing error from a key that was never issued. It does not
//! decide whether a text is looked up: a key of another system may begin with the same prefix, and is imported
//! by its hash alone.

mod layout;

use thiserror::Error;

pub use self::layout::InvalidPrefix;
use self::layout::{ALPHABET, KeyLayout, RANDOM_DIGITS, checksum_digits};
use super::{
    BorrowedKey, PresentedKey,
    hash::KeyHash,
    key_text::{self, InvalidKeyText},
};
use crate::domain::{text::PrefixHint, verdict::Verdict};

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
    pub fn parse<'a>(&self, key: impl Into<BorrowedKey<'a>>) -> Result<ParsedKey, InvalidKeyText> {
        let key = key.into();
        let text = key.expose();
        let own = self.layout.check(text.as_bytes());
        // Our layout is narrower than the rule for all keys, so that is not checked as well.
        if own == Some(Ok(())) {
            return Ok(ParsedKey::Own(KeyHash::of(key)));
        }
        key_text::check(text)?;
        let hash = KeyHash::of(key);
        Ok(if own.is_some() { ParsedKey::Damaged(hash) } else { ParsedKey::Foreign(hash) })
    }

    /// Returns the first characters of a key issued here: enough to recognise it, too few to guess it.
    #[must_use]
    pub fn prefix_hint(&self, key: &PresentedKey) -> PrefixHint {
        PrefixHint::shortened(key.expose().chars().take(self.layout.hint_len()))
    }
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
