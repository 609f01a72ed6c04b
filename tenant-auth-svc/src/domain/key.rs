//! Customer keys: their format, their hashes and their records.

mod format;
mod hash;
mod pepper;
mod record;
mod secret;

pub use self::{
    format::{InvalidPrefix, KeyFormat, MalformedKey, MalformedOwnKey, ParsedKey, RandomnessUnavailable},
    hash::{KeyHash, StoredHash},
    pepper::{InvalidPepper, Pepper, PepperId, Peppers},
    record::{
        ApiKey, ImportOutcome, KeyPrefixCursor, KeyRecord, KeyToImport, KeyUpdate, NewKey, Rotation,
        RotationOutcome, StoredKey, SuccessorExpiry,
    },
    secret::{BorrowedKey, PresentedKey},
};
