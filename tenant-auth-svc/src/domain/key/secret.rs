//! Plaintext keys in memory.

use std::fmt;

use zeroize::Zeroizing;

/// A plaintext key, as presented by a customer or as issued.
///
/// It can be neither printed nor cloned, and its memory is overwritten on drop.
pub struct PresentedKey(Zeroizing<String>);

impl PresentedKey {
    /// Takes ownership of a key; the text is not copied.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Returns the plaintext, for hashing and for the one response that contains a new key.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<BorrowedKey<'_>> for PresentedKey {
    fn from(key: BorrowedKey<'_>) -> Self {
        Self::new(key.0.to_owned())
    }
}

impl fmt::Debug for PresentedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresentedKey([redacted])")
    }
}

/// A plaintext key that borrows the bytes of a request.
#[derive(Clone, Copy)]
pub struct BorrowedKey<'a>(&'a str);

impl<'a> BorrowedKey<'a> {
    /// Borrows a key. Its memory is not overwritten on drop.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// Returns the plaintext.
    pub(in crate::domain) fn expose(self) -> &'a str {
        self.0
    }
}

impl<'a> From<&'a PresentedKey> for BorrowedKey<'a> {
    fn from(key: &'a PresentedKey) -> Self {
        Self(key.expose())
    }
}

impl fmt::Debug for BorrowedKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BorrowedKey([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_redacts_keys() {
        let key = PresentedKey::new("ta_canary".to_owned());
        assert_eq!(format!("{key:?}"), "PresentedKey([redacted])");
        assert_eq!(format!("{:?}", BorrowedKey::from(&key)), "BorrowedKey([redacted])");
    }
}
