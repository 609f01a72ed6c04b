//! Import of keys that another system issued.

use super::{ApiKey, NewKey};
use crate::domain::{
    clock::UnixMillis,
    id::{KeyId, TenantId},
    store::UnreadableRecord,
};

/// A key to import.
#[derive(Clone, Debug)]
pub struct KeyToImport {
    /// The key.
    pub key: NewKey,
    /// When it was issued originally; `None` means now.
    pub created_at: Option<UnixMillis>,
}

impl KeyToImport {
    /// Returns the names of the fields in which a stored key differs, and those that keep it from being valid.
    #[must_use]
    pub fn differing_fields(&self, stored: &ApiKey) -> Vec<&'static str> {
        let new = &self.key;
        let fields = [
            ("name", new.name.as_str() != stored.name),
            ("prefix_hint", new.prefix_hint.as_str() != stored.prefix_hint),
            ("scopes", new.scopes != stored.scopes),
            // Without a time, any time is as good.
            ("created_at", self.created_at.is_some_and(|at| at != stored.created_at)),
            ("expires_at", new.expires_at != stored.expires_at),
            ("allowed_networks", new.allowed_networks != stored.allowed_networks),
            ("revoked_at", stored.revoked_at.is_some()),
            ("enabled", stored.disabled_at.is_some()),
        ];
        fields.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field).collect()
    }
}

/// The outcome of importing a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportOutcome {
    /// It was stored under this id.
    Imported(KeyId),
    /// The tenant already has it with the same values, under this id.
    Existing(KeyId),
    /// The tenant already has it, with other values. Nothing was changed.
    Different {
        /// Its id.
        id: KeyId,
        /// The names of the fields that differ.
        fields: Vec<&'static str>,
    },
    /// There is no such tenant.
    NoSuchTenant(TenantId),
    /// It belongs to another tenant.
    HeldByAnotherTenant,
    /// It exists, but its record is unreadable.
    Unreadable(UnreadableRecord),
}

impl ImportOutcome {
    /// Returns the outcome for a key that is stored now, by this import or before.
    #[must_use]
    pub fn of(import: &KeyToImport, stored: ApiKey) -> Self {
        if stored.id == import.key.id {
            return Self::Imported(stored.id);
        }
        if stored.tenant_id != import.key.tenant_id {
            return Self::HeldByAnotherTenant;
        }
        let fields = import.differing_fields(&stored);
        if fields.is_empty() { Self::Existing(stored.id) } else { Self::Different { id: stored.id, fields } }
    }
}
