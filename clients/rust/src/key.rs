//! Plaintext keys in memory.

use std::fmt;

use zeroize::Zeroizing;

use crate::question::MAX_KEY_LEN;

/// A key in plaintext: a secret.
///
/// It shows itself neither in `Debug` nor in `Display`, cannot be cloned, and its memory is wiped when it goes. The
/// copies that the encoder and the operating system make while a request is sent are out of its reach.
pub struct PresentedKey(Zeroizing<String>);

impl PresentedKey {
    /// Takes a key over. A `String` is not copied.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The plaintext.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether the service need not be asked: it would refuse the message, which looks as if it had too much to do.
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
