//! What memory has to be told.

use std::collections::HashMap;

use crate::domain::{
    id::{KeyId, TenantId},
    key::KeyHash,
    verdict::Revision,
};

/// What has changed: by this replica just now, or by another, as the change log tells.
#[derive(Clone, Copy, Debug)]
pub enum Changed<'a> {
    /// These keys may have been unknown before.
    Added(&'a [KeyHash]),
    /// This key.
    Key(&'a KeyId),
    /// This tenant, and so all its keys.
    Tenant(&'a TenantId),
    /// These keys and these tenants, some of which may be new. What was read at or after the revision of a change
    /// reflects it already.
    Many {
        /// Ids of keys, with the revision of each one's last change.
        keys: &'a HashMap<KeyId, Revision>,
        /// Ids of tenants, with the revision of each one's last change.
        tenants: &'a HashMap<TenantId, Revision>,
    },
    /// Nobody knows what: the change log has a gap. What is in memory must be verified before it is relied on; while
    /// the database does not answer, it may still stand in.
    Unclear,
}

/// A memory that can be told to forget.
pub trait Forget: Send + Sync + 'static {
    /// Makes sure that nothing read before this call is served after it.
    fn forget(&self, changed: Changed<'_>);
}
