//! What is known of a key.

use std::{fmt, time::Duration};

use compact_str::CompactString;

use super::KeyHash;
use crate::domain::{
    change::{CacheableRecord, ChangeKind, PerSubject},
    clock::UnixMillis,
    id::{KeyId, TenantId},
    scope::ScopeSet,
    store::{StoredDigest, UnreadableRecord},
    tenant::{Tenant, TenantStatus},
    text::{KeyName, PrefixHint},
};

/// What a verdict depends on: a key together with its tenant, as of one read.
///
/// Its texts are in place as long as they are short, which nearly all are: what is read of a key for an answer lies together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// The key's public id.
    pub key_id: KeyId,
    /// Its tenant.
    pub tenant_id: TenantId,
    /// The tenant's display name.
    pub tenant_name: CompactString,
    /// The tenant's plan.
    pub plan: CompactString,
    /// Whether the tenant's keys are honoured.
    pub tenant_status: TenantStatus,
    /// What the key may do.
    pub scopes: ScopeSet,
    /// When it ends by itself.
    pub expires_at: Option<UnixMillis>,
    /// When it was withdrawn.
    pub revoked_at: Option<UnixMillis>,
    /// About when it was last validated, as of the read.
    pub last_used_at: Option<UnixMillis>,
}

impl CacheableRecord for KeyRecord {
    type Id = KeyHash;

    fn size_bytes(&self) -> usize {
        // Short texts are in the record itself.
        let texts = [self.tenant_name.len(), self.plan.len(), self.scopes.byte_len()];
        let ids = [self.key_id.as_str().len(), self.tenant_id.as_str().len()];
        size_of::<Self>()
            + texts.into_iter().chain(ids).filter(|length| *length > size_of::<String>()).sum::<usize>()
    }

    fn dependency_values<'m, T>(&self, values: &'m PerSubject<T>) -> impl Iterator<Item = &'m T> {
        values.keys.get(&self.key_id).into_iter().chain(values.tenants.get(&self.tenant_id))
    }

    fn own_value<'m, T>(&self, values: &'m PerSubject<T>) -> Option<&'m T> {
        values.keys.get(&self.key_id)
    }

    fn values_without_record_id<T>(values: &PerSubject<T>) -> impl Iterator<Item = &T> {
        values.keys.values()
    }

    fn values_by_id<T>(_: &PerSubject<T>) -> impl Iterator<Item = (&KeyHash, &T)> {
        // The log names keys by their public id.
        std::iter::empty()
    }

    fn value_for_id<'m, T>(_: &KeyHash, _: &'m PerSubject<T>) -> Option<&'m T> {
        None
    }

    fn reflects(&self, fate: ChangeKind) -> bool {
        match fate {
            ChangeKind::Changed | ChangeKind::Unbound => true,
            ChangeKind::Revoked(_) => self.revoked_at.is_some(),
            ChangeKind::Suspended => self.tenant_status == TenantStatus::Suspended,
        }
    }

    fn apply_revocation(&mut self, fate: ChangeKind) {
        match fate {
            ChangeKind::Changed | ChangeKind::Unbound => {}
            ChangeKind::Revoked(at) => self.revoked_at = Some(at),
            ChangeKind::Suspended => self.tenant_status = TenantStatus::Suspended,
        }
    }
}

/// A key's public side as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its public id.
    pub id: KeyId,
    /// Its tenant.
    pub tenant_id: TenantId,
    /// What a person calls it.
    pub name: String,
    /// Its first characters.
    pub prefix_hint: String,
    /// What it may do.
    pub scopes: ScopeSet,
    /// When it was issued.
    pub created_at: UnixMillis,
    /// When it ends by itself.
    pub expires_at: Option<UnixMillis>,
    /// When it was withdrawn.
    pub revoked_at: Option<UnixMillis>,
    /// Why it was withdrawn.
    pub revoke_reason: String,
    /// About when it was last validated.
    pub last_used_at: Option<UnixMillis>,
    /// The key that replaced it.
    pub replaced_by: Option<KeyId>,
    /// The pepper its digest was made with.
    pub pepper_id: Option<String>,
}

/// A key as stored, with its tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// Its public side.
    pub key: ApiKey,
    /// Its tenant; `None` where somebody has deleted it.
    pub tenant: Option<Tenant>,
    /// The digest under which it is stored.
    pub digest: StoredDigest,
}

impl StoredKey {
    /// What a lookup of the key finds; `None` where its tenant was deleted: then there is nobody it could belong to.
    #[must_use]
    pub fn record(&self) -> Option<KeyRecord> {
        let (key, tenant) = (&self.key, self.tenant.as_ref()?);
        Some(KeyRecord {
            key_id: key.id.clone(),
            tenant_id: tenant.id.clone(),
            tenant_name: tenant.name.as_str().into(),
            plan: tenant.plan.as_str().into(),
            tenant_status: tenant.status,
            scopes: key.scopes.clone(),
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            last_used_at: key.last_used_at,
        })
    }
}

/// Where a key stands in a list by prefix: by its first characters, and among those with the same ones by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPrefixCursor {
    /// Its first characters, as stored.
    pub prefix_hint: String,
    /// Its id.
    pub id: KeyId,
}

impl KeyPrefixCursor {
    /// Reads what [`Display`](fmt::Display) writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // No id contains a space.
        let (id, prefix_hint) = text.split_once(' ')?;
        Some(Self { prefix_hint: prefix_hint.to_owned(), id: KeyId::parse(id).ok()? })
    }
}

impl fmt::Display for KeyPrefixCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.prefix_hint)
    }
}

/// A key to store.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Its public id.
    pub id: KeyId,
    /// Its tenant, which must exist.
    pub tenant_id: TenantId,
    /// SHA-256 of the key.
    pub hash: KeyHash,
    /// What a person calls it.
    pub name: KeyName,
    /// Its first characters.
    pub prefix_hint: PrefixHint,
    /// What it may do.
    pub scopes: ScopeSet,
    /// When it ends by itself.
    pub expires_at: Option<UnixMillis>,
}

/// A key to take over from elsewhere.
#[derive(Clone, Debug)]
pub struct KeyToImport {
    /// The key.
    pub key: NewKey,
    /// When it was issued there; `None` means now.
    pub created_at: Option<UnixMillis>,
}

/// What became of a key to take over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportOutcome {
    /// It is stored under this id now.
    Imported(KeyId),
    /// The same tenant had it already, under this id.
    Existing(KeyId),
    /// There is no such tenant.
    NoSuchTenant(TenantId),
    /// Another tenant holds it.
    HeldByAnotherTenant,
    /// It is there, and the record that holds it cannot be read.
    Unreadable(UnreadableRecord),
}

/// A key to replace.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The old key.
    pub old: KeyId,
    /// How long the old key goes on, by the database's clock, unless it ends sooner.
    pub overlap: Duration,
    /// Public id of the successor.
    pub id: KeyId,
    /// SHA-256 of the successor.
    pub hash: KeyHash,
    /// The successor's first characters.
    pub prefix_hint: PrefixHint,
    /// When the successor ends by itself.
    pub expires_at: Option<UnixMillis>,
}

/// What became of a rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RotationOutcome {
    /// The key has a successor.
    Done {
        /// The successor.
        new: Box<ApiKey>,
        /// The old key with its new end.
        old: Box<ApiKey>,
        /// What a lookup of the successor finds.
        record: Box<KeyRecord>,
    },
    /// The old key is withdrawn, over, or was replaced before; nothing was changed.
    Refused(Box<ApiKey>),
    /// There is no such key.
    NoSuchKey,
}
