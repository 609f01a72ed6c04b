//! The recently used keys, as a starting replica reads them.

use std::{collections::HashMap, sync::Arc};

use super::StoredDigest;
use crate::domain::{clock::UnixMillis, identity::DatabaseIdentity, key::KeyRecord, verdict::Revision};

/// The last-used time of a key, and its id as stored, which may be unreadable.
pub type RecentlyUsedCursor = (UnixMillis, String);

/// Recently used keys, the latest use first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentlyUsedKeys {
    /// The keys with the digests they are stored under, without unreadable ones.
    pub keys: Vec<(StoredDigest, KeyRecord)>,
    /// The key after which the next page starts; `None` when this page is the last.
    pub next: Option<RecentlyUsedCursor>,
    /// The change-log position that the records reflect.
    pub revision: Revision,
    /// The database that the records come from.
    pub database: DatabaseIdentity,
}

/// The tenants of the pages read so far: each is read once, however many keys and pages it is on.
///
/// Records that are made of them are as old as the first page.
#[derive(Debug, Default)]
pub struct KnownTenants(HashMap<Arc<str>, Option<StoredTenant>>);

/// The texts of a tenant that a key's record contains, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTenant {
    /// Its display name.
    pub name: Arc<str>,
    /// Its plan.
    pub plan: Arc<str>,
    /// Its status.
    pub status: Arc<str>,
}

impl KnownTenants {
    /// Whether a tenant has been read.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// Returns a tenant that has been read; `None` if it does not exist.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&StoredTenant> {
        self.0.get(id)?.as_ref()
    }

    /// Adds a tenant that has been read; `None` if it does not exist.
    pub fn insert(&mut self, id: Arc<str>, tenant: Option<StoredTenant>) {
        self.0.insert(id, tenant);
    }
}
