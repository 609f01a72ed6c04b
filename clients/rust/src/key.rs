//! Plaintext keys.

use std::fmt;

use zeroize::Zeroizing;

use crate::key_query::MAX_KEY_LEN;

/// A plaintext key: a secret.
///
/// `Debug` and `Display` redact it, it cannot be cloned, and its memory is wiped on drop. Copies that the
/// encoder and the operating system make while a request is sent are not covered.
pub struct PresentedKey(Zeroizing<String>);

impl PresentedKey {
    /// Wraps a key. A `String` is not copied.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Returns the plaintext.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns whether the key is too long to send: the service would reject the message, which looks like
    /// overload.
    pub(crate) fn is_over_max_len(&self) -> bool {
        self.0.len() > MAX_KEY_LEN
    }
}

impl From<String> for PresentedKey {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for PresentedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresentedKey([redacted])")
    }
}

impl fmt::Display for PresentedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presented_key_is_redacted() {
        let key = PresentedKey::new("ta_canary");
        assert_eq!(format!("{key:?} {key}"), "PresentedKey([redacted]) [redacted]");
        assert_eq!(key.expose(), "ta_canary");
    }
}
