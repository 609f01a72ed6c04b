//! Hashes of keys.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::{BorrowedKey, PepperId};

/// The SHA-256 of a key, which identifies it in the cache. It is computed once per request.
///
/// Keys have at least 128 bits of entropy, so a plain digest cannot be reversed. Peppers protect the stored
/// digests; see [`StoredHash`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Hashes a key.
    #[must_use]
    pub fn of<'a>(key: impl Into<BorrowedKey<'a>>) -> Self {
        Self(Sha256::digest(key.into().expose().as_bytes()).into())
    }

    /// Creates a hash from existing bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the digest.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for KeyHash {
    /// Shows four bytes: enough to distinguish hashes in a log, too few for a lookup.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "KeyHash({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

/// The digest stored in the database: the SHA-256 of the key, or an HMAC-SHA-256 of that with a pepper.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredHash {
    /// The digest.
    pub digest: [u8; 32],
    /// The pepper of the digest; `None` for a plain SHA-256.
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
