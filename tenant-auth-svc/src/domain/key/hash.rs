//! What a key is looked up by.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::{BorrowedKey, PepperId};

/// SHA-256 of a key: what names it in memory. Made once per request.
///
/// Keys carry at least 128 bits of chance, so a plain digest cannot be turned back; the pepper guards the digests at
/// rest, see [`StoredHash`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Hashes a key.
    #[must_use]
    pub fn of<'a>(key: impl Into<BorrowedKey<'a>>) -> Self {
        Self(Sha256::digest(key.into().expose().as_bytes()).into())
    }

    /// Takes over a hash made elsewhere.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for KeyHash {
    /// Shows four bytes: enough to tell two apart in a log, too few to look one up.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "KeyHash({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

/// The digest under which the database knows a key: its SHA-256, or an HMAC-SHA-256 over that with a pepper.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredHash {
    /// The digest.
    pub digest: [u8; 32],
    /// The pepper it was made with; `None` for a plain SHA-256.
    pub pepper: Option<PepperId>,
}

impl fmt::Debug for StoredHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredHash").field("pepper", &self.pepper).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key::PresentedKey;

    #[test]
    fn key_hash_is_sha_256() {
        let hash = KeyHash::of(&PresentedKey::new("abc".to_owned()));
        assert_eq!(
            hex::encode(hash.as_bytes()),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(format!("{hash:?}"), "KeyHash(ba7816bf…)");
    }
}
