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

/// A key where it lies, in the bytes of a request: as secret as one that is owned.
#[derive(Clone, Copy)]
pub struct BorrowedKey<'a>(&'a str);

impl<'a> BorrowedKey<'a> {
    /// Takes a look at a key that is not ours to wipe.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// The plaintext.
    pub(super) fn expose(self) -> &'a str {
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
