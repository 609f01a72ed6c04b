//! Customer keys: how they look, how they are hashed, what is known of them.

mod format;
mod hash;
mod pepper;
mod record;
mod secret;

pub use self::{
    format::{InvalidPrefix, KeyFormat, Malformed, RandomnessUnavailable, Shape},
    hash::{KeyHash, StoredHash},
    pepper::{InvalidPepper, Pepper, PepperId, Peppers},
    record::{
        ApiKey, ImportOutcome, KeyRecord, KeyToImport, NewKey, PrefixPosition, Rotated, Rotation, StoredKey,
    },
    secret::{BorrowedKey, PresentedKey},
};
