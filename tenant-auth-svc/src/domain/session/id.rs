//! Ids of sessions.

use std::{fmt, sync::Arc};

use thiserror::Error;

/// The id that the caller's protocol gave a session: 1 to 1,024 visible ASCII characters. Some MCP servers use tokens
/// (JWTs) as session ids.
///
/// In some protocols, knowing the id is enough to act in the session, so `Debug` shows only the first four
/// characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(Arc<str>);

/// Why a text is not a valid session id. The message completes the sentence "the value …".
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidSessionId {
    /// It is empty.
    #[error("must not be empty")]
    Empty,
    /// It is longer than [`SessionId::MAX_LEN`].
    #[error("must have at most {} characters", SessionId::MAX_LEN)]
    TooLong,
    /// It contains a space, a control character, or a character outside ASCII.
    #[error("may hold only visible ASCII characters")]
    InvalidCharacter,
}

impl SessionId {
    /// Maximum length, in bytes.
    pub const MAX_LEN: usize = 1_024;

    /// Parses an id.
    ///
    /// # Errors
    /// When it is empty, too long, or contains anything but visible ASCII characters.
    pub fn parse(text: &str) -> Result<Self, InvalidSessionId> {
        if text.is_empty() {
            return Err(InvalidSessionId::Empty);
        }
        if text.len() > Self::MAX_LEN {
            return Err(InvalidSessionId::TooLong);
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(InvalidSessionId::InvalidCharacter);
        }
        Ok(Self(text.into()))
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.0.chars().take(4).collect();
        write!(f, "SessionId({shown}…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_session_ids_are_rejected_with_reason() {
        assert_eq!(SessionId::parse(""), Err(InvalidSessionId::Empty));
        assert_eq!(SessionId::parse(&"x".repeat(1_025)), Err(InvalidSessionId::TooLong));
        for bad in ["a b", "a\n", "é"] {
            assert_eq!(SessionId::parse(bad), Err(InvalidSessionId::InvalidCharacter), "{bad:?}");
        }
        assert_eq!(SessionId::parse(&"~".repeat(1_024)).unwrap().as_str().len(), 1_024);
    }

    #[test]
    fn debug_shows_first_four_characters_only() {
        let id = SessionId::parse("0123456789").unwrap();
        assert_eq!(format!("{id:?}"), "SessionId(0123…)");
    }
}
