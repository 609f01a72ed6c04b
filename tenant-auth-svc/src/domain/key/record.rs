//! Records of keys.

use std::{fmt, sync::Arc, time::Duration};

use super::KeyHash;
use crate::domain::{
    change::{CacheableRecord, ChangeKind, PerSubject, SharedParts},
    clock::{OptionalMillis, UnixMillis},
    etag::Etag,
    id::{KeyId, PackedKeyId, TenantId},
    network::AllowedNetworks,
    scope::ScopeSet,
    store::StoredDigest,
    tenant::{Tenant, TenantSnapshot, TenantStatus},
    text::{KeyName, PrefixHint, Reason},
};

/// The data that a verdict depends on: a key with its tenant, as of one read.
///
/// It is kept by the million, so it is small: the keys of a tenant share what they have in common, and a clone copies
/// no text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// The key's public id.
    pub key_id: PackedKeyId,
    /// Its tenant.
    pub tenant: Arc<TenantSnapshot>,
    /// The key's scopes.
    pub scopes: Arc<ScopeSet>,
    /// The networks from which it may be used.
    pub allowed_networks: AllowedNetworks,
    /// When it expires; none means never.
    pub expires_at: OptionalMillis,
    /// When it was revoked.
    pub revoked_at: OptionalMillis,
    /// The approximate last-used time, as of the read.
    pub last_used_at: OptionalMillis,
    /// Whether the key is disabled.
    pub is_disabled: bool,
}

impl CacheableRecord for KeyRecord {
    type Id = KeyHash;

    const HAS_PUBLIC_ID: bool = true;

    fn size_bytes(&self) -> usize {
        size_of::<Self>()
            + self.key_id.heap_bytes()
            + self.tenant.size_bytes()
            + self.scopes.size_bytes()
            + self.allowed_networks.heap_bytes()
    }

    fn id_heap_bytes(_: &KeyHash) -> usize {
        0
    }

    fn dependency_values<'m, T>(&self, values: &'m PerSubject<T>) -> impl Iterator<Item = &'m T> {
        let of_key = (!values.keys.is_empty()).then(|| values.keys.get(&self.key_id.unpack())).flatten();
        of_key.into_iter().chain(values.tenants.get(&self.tenant.id))
    }

    fn public_id(&self) -> Option<&PackedKeyId> {
        Some(&self.key_id)
    }

    fn id_of_digest(digest: StoredDigest) -> Option<KeyHash> {
        // Without a pepper it is the same. No key has a hash that is another key's digest.
        Some(KeyHash::from_bytes(digest))
    }

    fn shared_parts(&mut self) -> SharedParts<'_> {
        SharedParts { tenant: &mut self.tenant, scopes: &mut self.scopes, opened_by: None }
    }

    fn values_by_public_id<T>(values: &PerSubject<T>) -> impl Iterator<Item = (&KeyId, &T)> {
        values.keys.iter()
    }

    fn values_by_id<T>(_: &PerSubject<T>) -> impl Iterator<Item = (&KeyHash, &T)> {
        // The change log identifies keys by their public id.
        std::iter::empty()
    }

    fn value_for_id<'m, T>(_: &KeyHash, _: &'m PerSubject<T>) -> Option<&'m T> {
        None
    }

    fn reflects(&self, kind: ChangeKind) -> bool {
        match kind {
            ChangeKind::Changed | ChangeKind::Unbound => true,
            ChangeKind::Revoked(_) => self.revoked_at.get().is_some(),
            ChangeKind::Disabled => self.is_disabled,
            ChangeKind::Suspended => self.tenant.status == TenantStatus::Suspended,
        }
    }

    fn apply_revocation(&mut self, kind: ChangeKind) {
        match kind {
            ChangeKind::Changed | ChangeKind::Unbound => {}
            ChangeKind::Revoked(at) => self.revoked_at = Some(at).into(),
            ChangeKind::Disabled => self.is_disabled = true,
            ChangeKind::Suspended => Arc::make_mut(&mut self.tenant).status = TenantStatus::Suspended,
        }
    }
}

/// The stored public data of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its public id.
    pub id: KeyId,
    /// Its tenant.
    pub tenant_id: TenantId,
    /// Its display name.
    pub name: String,
    /// Its first characters.
    pub prefix_hint: String,
    /// Its scopes.
    pub scopes: ScopeSet,
    /// The networks from which it may be used.
    pub allowed_networks: AllowedNetworks,
    /// When it was issued.
    pub created_at: UnixMillis,
    /// When it expires; `None` means never.
    pub expires_at: Option<UnixMillis>,
    /// When it was revoked.
    pub revoked_at: Option<UnixMillis>,
    /// Why it was revoked.
    pub revoke_reason: String,
    /// When it was disabled; `None` while it is enabled.
    pub disabled_at: Option<UnixMillis>,
    /// The approximate last-used time.
    pub last_used_at: Option<UnixMillis>,
    /// The key that replaced it.
    pub replaced_by: Option<KeyId>,
    /// The pepper of its digest.
    pub pepper_id: Option<String>,
    /// Changes with every change of the key.
    pub etag: Etag,
}

/// A stored key with its tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// Its public data.
    pub key: ApiKey,
    /// Its tenant; `None` if the row was deleted with SQL.
    pub tenant: Option<Tenant>,
    /// The digest it is stored under.
    pub digest: StoredDigest,
}

impl StoredKey {
    /// Returns the record that a lookup of the key finds; `None` if its tenant was deleted.
    #[must_use]
    pub fn record(&self) -> Option<KeyRecord> {
        let (key, tenant) = (&self.key, self.tenant.as_ref()?);
        let tenant = TenantSnapshot {
            id: tenant.id.clone(),
            name: tenant.name.as_str().into(),
            plan: tenant.plan.as_str().into(),
            status: tenant.status,
        };
        Some(KeyRecord {
            key_id: PackedKeyId::from(&key.id),
            tenant: tenant.into(),
            scopes: key.scopes.clone().into(),
            allowed_networks: key.allowed_networks.clone(),
            expires_at: key.expires_at.into(),
            revoked_at: key.revoked_at.into(),
            last_used_at: key.last_used_at.into(),
            is_disabled: key.disabled_at.is_some(),
        })
    }
}

/// Position of a key in a list by prefix: by its first characters, and among equal ones by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPrefixCursor {
    /// Its first characters, as stored.
    pub prefix_hint: String,
    /// Its id.
    pub id: KeyId,
}

impl KeyPrefixCursor {
    /// Parses the text that [`Display`](fmt::Display) writes.
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
    /// Its display name.
    pub name: KeyName,
    /// Its first characters.
    pub prefix_hint: PrefixHint,
    /// Its scopes.
    pub scopes: ScopeSet,
    /// The networks from which it may be used.
    pub allowed_networks: AllowedNetworks,
    /// When it expires; `None` means never.
    pub expires_at: Option<UnixMillis>,
}

/// Changes of a key. `None` keeps a value.
#[derive(Clone, Debug, Default)]
pub struct KeyUpdate {
    /// Display name.
    pub name: Option<KeyName>,
    /// Its scopes.
    pub scopes: Option<ScopeSet>,
    /// When it expires; `Some(None)` means never.
    pub expires_at: Option<Option<UnixMillis>>,
    /// Whether it can be valid.
    pub enabled: Option<bool>,
    /// The networks from which it may be used.
    pub allowed_networks: Option<AllowedNetworks>,
}

impl KeyUpdate {
    /// Whether a key has the new values already.
    #[must_use]
    pub fn is_applied_to(&self, key: &ApiKey) -> bool {
        self.name.as_ref().is_none_or(|name| name.as_str() == key.name)
            && self.scopes.as_ref().is_none_or(|scopes| *scopes == key.scopes)
            && self.expires_at.is_none_or(|expires_at| expires_at == key.expires_at)
            && self.enabled.is_none_or(|enabled| enabled == key.disabled_at.is_none())
            && self.allowed_networks.as_ref().is_none_or(|networks| *networks == key.allowed_networks)
    }
}

/// A key to rotate.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The old key.
    pub old: KeyId,
    /// How long the old key stays valid, by the database's clock, unless it expires sooner.
    pub overlap: Duration,
    /// Public id of the successor.
    pub id: KeyId,
    /// SHA-256 of the successor.
    pub hash: KeyHash,
    /// The successor's first characters.
    pub prefix_hint: PrefixHint,
    /// When the successor expires.
    pub expires_at: SuccessorExpiry,
    /// Why, for the audit log.
    pub reason: Option<Reason>,
}

/// When the successor of a rotated key expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuccessorExpiry {
    /// When the old key would have expired.
    Kept,
    /// At this time.
    At(UnixMillis),
    /// Never.
    Never,
}

/// The outcome of a rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RotationOutcome {
    /// The key has a successor.
    Done {
        /// The successor.
        new: Box<ApiKey>,
        /// The old key with its new expiry.
        old: Box<ApiKey>,
        /// The record that a lookup of the successor finds.
        record: Box<KeyRecord>,
    },
    /// The old key is revoked, disabled or expired, or was rotated before. Nothing was changed.
    Refused(Box<ApiKey>),
    /// There is no such key.
    NoSuchKey,
}
