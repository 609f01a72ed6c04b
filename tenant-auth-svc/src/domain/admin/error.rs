//! Errors of the operators' use cases.

use thiserror::Error;

use crate::domain::{
    etag::Etag,
    id::{KeyId, TenantId},
    key::RandomnessUnavailable,
    store::StoreError,
};

/// Why a request of an operator failed.
#[derive(Debug, Error)]
pub enum AdminError {
    /// There is no such tenant.
    #[error("there is no tenant {0}")]
    NoSuchTenant(TenantId),
    /// There is no such key.
    #[error("there is no key {0}")]
    NoSuchKey(KeyId),
    /// The id belongs to a tenant with other values.
    #[error("tenant {tenant} exists with another {}", fields.join(" and another "))]
    TenantExists {
        /// The tenant.
        tenant: TenantId,
        /// The fields that differ.
        fields: Vec<&'static str>,
    },
    /// A tenant or key has another version than the update was based on.
    #[error("{target} has changed since it was read: its etag is now {etag}")]
    Changed {
        /// The tenant or key.
        target: String,
        /// Its current etag.
        etag: Etag,
    },
    /// The tenant must be suspended before it is deleted.
    #[error("tenant {0} is not suspended: suspend it before it is deleted")]
    TenantNotSuspended(TenantId),
    /// The deletion of the tenant has begun, so it can be neither resumed nor created.
    #[error("tenant {0} is being deleted: its deletion cannot be undone")]
    TenantBeingDeleted(TenantId),
    /// The key is revoked, so it cannot be changed.
    #[error("key {0} is revoked and cannot be changed")]
    KeyRevoked(KeyId),
    /// The key to import belongs to another tenant.
    #[error("another tenant holds this key")]
    KeyHeldByAnotherTenant,
    /// The key cannot be rotated.
    #[error("key {key} cannot be rotated: it {because}")]
    NotRotatable {
        /// The key.
        key: KeyId,
        /// The reason, which completes the sentence.
        because: &'static str,
    },
    /// The expiry is not in the future.
    #[error("the expiry must be in the future")]
    ExpiryNotInFuture,
    /// The overlap is longer than [`MAX_ROTATION_OVERLAP`](super::MAX_ROTATION_OVERLAP).
    #[error("the overlap must be at most 90 days")]
    OverlapTooLong,
    /// No random bytes are available, so no key can be generated.
    #[error(transparent)]
    EntropyUnavailable(#[from] RandomnessUnavailable),
    /// The database call failed. The change may have been made all the same; repeating the request is safe.
    #[error(transparent)]
    Store(#[from] StoreError),
}
