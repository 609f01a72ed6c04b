//! Customer keys: their format, their hashes and their records.

mod format;
mod hash;
mod import;
pub mod key_text;
mod pepper;
mod record;
mod secret;

pub use self::{
    format::{InvalidPrefix, KeyFormat, ParsedKey, RandomnessUnavailable},
    hash::{KeyHash, StoredHash},
    import::{ImportOutcome, KeyToImport},
    key_text::InvalidKeyText,
    pepper::{InvalidPepper, Pepper, PepperId, Peppers},
    record::{
        ApiKey, KeyPrefixCursor, KeyRecord, KeyUpdate, NewKey, Rotation, RotationOutcome, StoredKey,
        SuccessorExpiry,
    },
    secret::{BorrowedKey, PresentedKey},
};
