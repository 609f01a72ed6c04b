//! Short texts entered by people: names, plans, reasons. Their length limits are here, the allowed characters
//! in `display`.
//!
//! `tenantctl` compiles the same source file, so a key file that passes its checks is accepted by the
//! service.

// With an explicit path, because this file is also a module of another program.
#[path = "text/display.rs"]
pub(super) mod display;

use thiserror::Error;

/// Why a text is not accepted. The message completes the sentence "the value …".
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidText {
    /// It is empty but required.
    #[error("must not be empty")]
    Empty,
    /// It has more characters than allowed.
    #[error("must have at most {max} characters, and {} bytes of UTF-8", max * UTF8)]
    TooLong {
        /// The limit, in characters.
        max: usize,
    },
    /// It contains a character that cannot be displayed at its position, or is invisible.
    #[error("must not have U+{code_point:04X}, {why}, as character {place}: remove it")]
    Character {
        /// The code point.
        code_point: u32,
        /// Position in the text, from 1.
        place: usize,
        /// The kind of character.
        why: &'static str,
    },
    /// It has no visible character.
    #[error("must have a visible character: add one")]
    Unseen,
}

/// Maximum UTF-8 length of a character, in bytes.
const UTF8: usize = 4;

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $max:literal, required: $required:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(Box<str>);

        impl $name {
            /// Maximum number of characters.
            pub const MAX_CHARS: usize = $max;

            /// Whether the text must not be empty.
            pub const REQUIRED: bool = $required;

            /// Accepts a text within the limits that can be displayed; see `display`.
            ///
            /// # Errors
            /// When it is too long, contains an invisible character, starts or ends with a space, or is empty
            /// but required.
            pub fn parse(text: &str) -> Result<Self, InvalidText> {
                if text.is_empty() {
                    return if Self::REQUIRED { Err(InvalidText::Empty) } else { Ok(Self(text.into())) };
                }
                // The byte length first, so that the characters of a long text are not counted.
                if text.len() > Self::MAX_CHARS * UTF8 || text.chars().count() > Self::MAX_CHARS {
                    return Err(InvalidText::TooLong { max: Self::MAX_CHARS });
                }
                display::check(text)?;
                Ok(Self(text.into()))
            }

            /// Accepts a stored text unchanged: a text that was accepted once stays readable, even if the
            /// rules have changed.
            #[must_use]
            pub fn stored(text: &str) -> Self {
                Self(text.into())
            }

            /// Returns the text.
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
    /// The display name of a key: up to 64 characters.
    KeyName, 64, required: false
);
text!(
    /// Why a key was revoked or a tenant suspended: 1 to 256 characters.
    Reason, 256, required: true
);
text!(
    /// The first characters of a key, to recognise it: up to 24.
    PrefixHint, 24, required: false
);

text!(
    /// Who found a leaked key: 1 to 64 characters.
    LeakSource, 64, required: true
);
text!(
    /// Where a leaked key was found: up to 1,024 characters.
    LeakLocation, 1024, required: false
);
text!(
    /// The finder's name for the kind of a leaked key: up to 64 characters.
    LeakType, 64, required: false
);

/// The beginning of a name to search for: 1 to 64 characters. Any characters: a name that was stored by another writer is found
/// too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePrefix(Box<str>);

impl NamePrefix {
    /// Maximum number of characters: as many as a name has.
    pub const MAX_CHARS: usize = TenantName::MAX_CHARS;

    /// Accepts a text within the limits.
    ///
    /// # Errors
    /// When it is empty or too long.
    pub fn parse(text: &str) -> Result<Self, InvalidText> {
        match text.chars().take(Self::MAX_CHARS + 1).count() {
            0 => Err(InvalidText::Empty),
            1..=Self::MAX_CHARS => Ok(Self(text.into())),
            _ => Err(InvalidText::TooLong { max: Self::MAX_CHARS }),
        }
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PrefixHint {
    /// Creates a hint from the first characters of a text.
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
        let message = |text| Reason::parse(text).unwrap_err().to_string();
        assert_eq!(
            message("a\u{202e}b"),
            "must not have U+202E, an invisible character, as character 2: remove it"
        );
        assert_eq!(
            message("  "),
            "must not have U+0020, a space at its start or end, as character 1: remove it"
        );
        assert_eq!(message("\u{2800}"), "must have a visible character: add one");
        assert_eq!(message(&"x".repeat(257)), "must have at most 256 characters, and 1024 bytes of UTF-8");
    }

    #[test]
    fn stored_text_is_not_revalidated() {
        for text in ["", "a\u{202e}b", " Acme ", &"x".repeat(1_000)] {
            assert_eq!(TenantName::stored(text).as_str(), text);
        }
    }
}
