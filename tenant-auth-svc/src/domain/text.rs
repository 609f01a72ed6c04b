//! Short texts that people write: names, plans, reasons.

use thiserror::Error;

/// Why a text was refused. The message completes the sentence "the value …".
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidText {
    /// Nothing was given where something is required.
    #[error("must not be empty")]
    Empty,
    /// More characters than allowed.
    #[error("must have at most {max} characters")]
    TooLong {
        /// The limit, in characters.
        max: usize,
    },
    /// A control character, which would garble logs and terminals.
    #[error("must not contain control characters")]
    Control,
}

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

            /// Accepts a text within the limits.
            ///
            /// # Errors
            /// When it is too long, holds control characters, or is empty where it may not be.
            pub fn parse(text: &str) -> Result<Self, InvalidText> {
                if text.is_empty() && Self::REQUIRED {
                    return Err(InvalidText::Empty);
                }
                if text.chars().count() > Self::MAX_CHARS {
                    return Err(InvalidText::TooLong { max: Self::MAX_CHARS });
                }
                if text.chars().any(char::is_control) {
                    return Err(InvalidText::Control);
                }
                Ok(Self(text.into()))
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
    fn limits_are_counted_in_characters() {
        assert!(TenantName::parse(&"ü".repeat(64)).is_ok());
        assert_eq!(TenantName::parse(&"ü".repeat(65)), Err(InvalidText::TooLong { max: 64 }));
    }

    #[test]
    fn only_required_texts_refuse_to_be_empty() {
        assert_eq!(Reason::parse(""), Err(InvalidText::Empty));
        assert!(Plan::parse("").is_ok());
    }

    #[test]
    fn control_characters_are_refused() {
        assert_eq!(Plan::parse("pro\u{1b}[31m"), Err(InvalidText::Control));
        assert_eq!(Reason::parse("two\nlines"), Err(InvalidText::Control));
    }
}
