//! Ids of tenants and keys. They are safe to log, to display and to put into a URL.

mod packed;

use std::fmt::{self, Write as _};

use arrayvec::ArrayString;
use thiserror::Error;
use uuid::Uuid;

pub use self::packed::PackedKeyId;
use super::clock::UnixMillis;

/// Maximum length of an id, in bytes.
pub const MAX_ID_LEN: usize = 64;

/// Why a text is not a valid id. The message completes the sentence "the value …".
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidId {
    /// It is empty.
    #[error("must not be empty")]
    Empty,
    /// It is longer than [`MAX_ID_LEN`].
    #[error("must have at most {MAX_ID_LEN} characters")]
    TooLong,
    /// It contains a character that is not allowed.
    #[error("may hold only A-Z a-z 0-9 _ and -")]
    Character,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(ArrayString<MAX_ID_LEN>);

        impl $name {
            /// Generates an id: a type prefix and a UUIDv7, so that ids sort by age.
            #[must_use]
            pub fn generate() -> Self {
                let mut id = ArrayString::new();
                // The prefix and 32 digits are shorter than the longest id.
                let _ = write!(id, concat!($prefix, "_{}"), Uuid::now_v7().simple());
                Self(id)
            }

            /// Parses 1 to 64 characters of `A-Z a-z 0-9 _ -`: an id generated here, or an imported one.
            ///
            /// # Errors
            /// When it is empty, too long, or contains another character.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                if text.is_empty() {
                    return Err(InvalidId::Empty);
                }
                let id = ArrayString::from(text).map_err(|_| InvalidId::TooLong)?;
                if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
                    return Err(InvalidId::Character);
                }
                Ok(Self(id))
            }

            /// Returns the id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// Id of a tenant: generated here as `ten_…`, or chosen by the creator of the tenant.
    TenantId, "ten"
);
id!(
    /// Public id of a key, `key_…`. It is no secret.
    KeyId, "key"
);

impl KeyId {
    /// Returns when the id was generated; `None` if it was not generated here.
    #[must_use]
    pub fn generated_at(&self) -> Option<UnixMillis> {
        let id = Uuid::try_parse(self.0.strip_prefix("key_")?).ok()?;
        let (seconds, nanos) = id.get_timestamp().filter(|_| id.get_version_num() == 7)?.to_unix();
        i64::try_from(seconds).ok().map(|seconds| UnixMillis(seconds * 1_000 + i64::from(nanos / 1_000_000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_parse_and_sort_by_age() {
        let ids: Vec<_> = (0..100).map(|_| KeyId::generate()).collect();
        assert!(ids.is_sorted());
        for id in &ids {
            assert_eq!(KeyId::parse(id.as_str()).as_ref(), Ok(id));
        }
    }

    #[test]
    fn generated_key_id_contains_its_time() {
        let at = KeyId::generate().generated_at().unwrap().0 - UnixMillis(1_700_000_000_000).0;
        assert!(at > 0, "{at}");
        for id in ["key_1", "key_00000000000040008000000000000000", "imported"] {
            assert_eq!(KeyId::parse(id).unwrap().generated_at(), None, "{id}");
        }
    }

    #[test]
    fn invalid_ids_are_rejected_with_reason() {
        assert_eq!(TenantId::parse(""), Err(InvalidId::Empty));
        assert_eq!(TenantId::parse(&"x".repeat(65)), Err(InvalidId::TooLong));
        assert_eq!(TenantId::parse("a b"), Err(InvalidId::Character));
        assert_eq!(TenantId::parse("té"), Err(InvalidId::Character));
    }
}
