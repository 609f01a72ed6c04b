//! What can keep an operator's wish from being carried out.

use thiserror::Error;

use crate::domain::{
    id::{KeyId, TenantId},
    key::RandomnessUnavailable,
    store::StoreError,
};

/// Why an operator's wish was not carried out.
#[derive(Debug, Error)]
pub enum AdminError {
    /// There is no such tenant.
    #[error("there is no tenant {0}")]
    NoSuchTenant(TenantId),
    /// There is no such key.
    #[error("there is no key {0}")]
    NoSuchKey(KeyId),
    /// The id is taken by a tenant with another name or plan.
    #[error("tenant {0} exists with another name or plan")]
    TenantExists(TenantId),
    /// A key to import belongs to somebody else already.
    #[error("another tenant holds this key")]
    KeyHeldByAnotherTenant,
    /// The key cannot be replaced.
    #[error("key {key} cannot be rotated: it {because}")]
    NotRotatable {
        /// The key.
        key: KeyId,
        /// What rules it out, completing the sentence.
        because: &'static str,
    },
    /// The end lies in the past.
    #[error("the expiry must be in the future")]
    ExpiryNotInFuture,
    /// The overlap is longer than [`MAX_ROTATION_OVERLAP`](super::MAX_OVERLAP).
    #[error("the overlap must be at most 90 days")]
    OverlapTooLong,
    /// No key can be made.
    #[error(transparent)]
    NoRandomness(#[from] RandomnessUnavailable),
    /// The database gave no answer. A change may have happened all the same; repeating it is safe.
    #[error(transparent)]
    Store(#[from] StoreError),
}
