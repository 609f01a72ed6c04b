//! Short texts that people write: names, plans, reasons. Their limits are below, what they may consist of is in `display`.
//!
//! `tenantctl` compiles this very file, so that a file of keys that it finds fine is fine for the service.

// By its path: this file is a module of another program, too.
#[path = "text/display.rs"]
pub(super) mod display;

use thiserror::Error;

/// Why a text was refused. The message completes the sentence "the value …".
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidText {
    /// Nothing was given where something is required.
    #[error("must not be empty")]
    Empty,
    /// More characters than allowed.
    #[error("must have at most {max} characters, and {} bytes of UTF-8", max * UTF8)]
    TooLong {
        /// The limit, in characters.
        max: usize,
    },
    /// A character that cannot be shown where it is, or is not seen.
    #[error("must not have U+{code_point:04X}, {why}, as character {place}: remove it")]
    Character {
        /// Which.
        code_point: u32,
        /// Its place in the text, from 1.
        place: usize,
        /// What it is.
        why: &'static str,
    },
    /// Nothing in it can be seen.
    #[error("must have a character that can be seen: add one")]
    Unseen,
}

/// The most bytes of a character.
const UTF8: usize = 4;

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $max:literal, required: $required:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(Box<str>);

        impl $name {
            /// The limit, in characters.
            pub const MAX_CHARS: usize = $max;

            /// Whether it must not be empty.
            pub const REQUIRED: bool = $required;

            /// Accepts a text within the limits that can be shown; see `display`.
            ///
            /// # Errors
            /// When it is too long, holds what cannot be seen, begins or ends with a blank, or is empty where it may not be.
            pub fn parse(text: &str) -> Result<Self, InvalidText> {
                if text.is_empty() {
                    return if Self::REQUIRED { Err(InvalidText::Empty) } else { Ok(Self(text.into())) };
                }
                // First the bytes: nothing long is walked through.
                if text.len() > Self::MAX_CHARS * UTF8 || text.chars().count() > Self::MAX_CHARS {
                    return Err(InvalidText::TooLong { max: Self::MAX_CHARS });
                }
                display::check(text)?;
                Ok(Self(text.into()))
            }

            /// Takes a text that is stored as it is: what was accepted once can be read for ever, whatever the rules are
            /// today.
            #[must_use]
            pub fn stored(text: &str) -> Self {
                Self(text.into())
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}

text!(
    /// A tenant's display name: 1 to 64 characters.
    TenantName, 64, required: true
);
text!(
    /// A tenant's plan, an opaque label: up to 32 characters.
    Plan, 32, required: false
);
text!(
    /// What a person calls a key: up to 64 characters.
    KeyName, 64, required: false
);
text!(
    /// Why something was withdrawn or suspended: 1 to 256 characters.
    Reason, 256, required: true
);
text!(
    /// The first characters of a key, to recognise it by: up to 24.
    PrefixHint, 24, required: false
);

impl PrefixHint {
    /// Takes as much of a text as fits.
    #[must_use]
    pub fn shortened(text: impl Iterator<Item = char>) -> Self {
        Self(text.take(Self::MAX_CHARS).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_limits_count_characters() {
        assert!(TenantName::parse(&"ü".repeat(64)).is_ok());
        assert_eq!(TenantName::parse(&"ü".repeat(65)), Err(InvalidText::TooLong { max: 64 }));
        assert!(TenantName::parse(&"😀".repeat(64)).is_ok());
    }

    #[test]
    fn only_required_texts_reject_empty_input() {
        assert_eq!(Reason::parse(""), Err(InvalidText::Empty));
        assert!(Plan::parse("").is_ok());
    }

    #[test]
    fn error_names_the_character_and_the_fix() {
        let refused = |text| Reason::parse(text).unwrap_err().to_string();
        assert_eq!(
            refused("a\u{202e}b"),
            "must not have U+202E, an invisible character, as character 2: remove it"
        );
        assert_eq!(
            refused("  "),
            "must not have U+0020, a blank at its beginning or end, as character 1: remove it"
        );
        assert_eq!(refused("\u{2800}"), "must have a character that can be seen: add one");
        assert_eq!(refused(&"x".repeat(257)), "must have at most 256 characters, and 1024 bytes of UTF-8");
    }

    #[test]
    fn stored_text_is_not_revalidated() {
        for text in ["", "a\u{202e}b", " Acme ", &"x".repeat(1_000)] {
            assert_eq!(TenantName::stored(text).as_str(), text);
        }
    }
}
