//! Plaintext keys in memory.

use std::fmt;

use zeroize::Zeroizing;

/// A key as a customer presents it, or as it is issued: a secret.
///
/// It can be neither printed nor cloned, and its memory is wiped when it goes.
pub struct PresentedKey(Zeroizing<String>);

impl PresentedKey {
    /// Takes a key over; the text is not copied.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The plaintext: for hashing it, and for the one reply that hands out a new key.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PresentedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresentedKey([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let key = PresentedKey::new("ta_canary".to_owned());
        assert_eq!(format!("{key:?}"), "PresentedKey([redacted])");
    }
}
