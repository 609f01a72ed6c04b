//! Records of sessions.

use std::{sync::Arc, time::Duration};

use thiserror::Error;

use super::{Attributes, SessionId};
use crate::domain::{
    change::{CacheableRecord, ChangeKind, PerSubject, SharedParts},
    clock::UnixMillis,
    id::{KeyId, PackedKeyId, TenantId},
    key::KeyRecord,
    store::StoredDigest,
};

/// Whether the expiry of a session is fixed or sliding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionExpiry {
    /// The session expires one time to live after it was bound.
    Fixed,
    /// The session expires one time to live after it was last validated.
    Sliding,
}

/// The time to live of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl(Duration);

/// Why a time to live was rejected. The message completes the sentence "the value …".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidTtl {
    /// It is too short or too long.
    #[error("must be from 1s to 30 days")]
    OutOfRange,
    /// Sliding expiries are written every few seconds, so the time to live must be longer than that.
    #[error("must be at least 60s for a sliding session")]
    TooShortForSliding,
}

impl Ttl {
    /// Accepts 1 s to 30 days; for a sliding session at least 60 s.
    ///
    /// # Errors
    /// When it is outside these limits.
    pub fn new(ttl: Duration, expiry: SessionExpiry) -> Result<Self, InvalidTtl> {
        if !(Duration::from_secs(1)..=Duration::from_secs(30 * 86_400)).contains(&ttl) {
            return Err(InvalidTtl::OutOfRange);
        }
        if expiry == SessionExpiry::Sliding && ttl < Duration::from_secs(60) {
            return Err(InvalidTtl::TooShortForSliding);
        }
        Ok(Self(ttl))
    }

    /// Accepts a stored value, which was checked when it was stored.
    #[must_use]
    pub fn from_stored(ttl: Duration) -> Self {
        Self(ttl)
    }

    /// Returns the duration.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0
    }

    /// Returns the granularity of a sliding expiry: a tenth of the time to live, at most a minute.
    #[must_use]
    pub fn slide_granularity(self) -> Duration {
        (self.0 / 10).min(Duration::from_secs(60))
    }
}

/// A session as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Id of the session.
    pub id: SessionId,
    /// The tenant that it is bound to.
    pub tenant_id: TenantId,
    /// Id of the key that opened it.
    pub key_id: KeyId,
    /// When it was bound.
    pub created_at: UnixMillis,
    /// When it expires.
    pub expires_at: UnixMillis,
    /// Whether the expiry is fixed or sliding.
    pub expiry: SessionExpiry,
    /// Its time to live.
    pub ttl: Ttl,
    /// The attributes that the caller attached.
    pub attributes: Attributes,
}

/// A session to bind.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Id of the session.
    pub id: SessionId,
    /// The tenant to bind it to.
    pub tenant_id: TenantId,
    /// The key that opens it.
    pub key_id: KeyId,
    /// Its time to live, from the time of the binding by the database's clock.
    pub ttl: Ttl,
    /// Whether its expiry is fixed or sliding.
    pub expiry: SessionExpiry,
    /// The attributes that the caller attaches.
    pub attributes: Attributes,
    /// Identifies this call, so that a retry after a lost response recognises its own binding.
    pub bind_id: String,
    /// Maximum number of sessions of the tenant.
    pub max_sessions: u32,
}

/// The outcome of a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredBinding {
    /// The session is bound. If it was bound before this call, it is unchanged.
    Bound {
        /// The session as stored.
        session: Box<Session>,
        /// Whether it was bound before.
        already: bool,
    },
    /// The id belongs to a session of another tenant.
    HeldByAnotherTenant,
    /// The tenant has reached its session limit.
    TooMany,
}

/// The data that a verdict depends on: a session with its key and tenant, as of one read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// The session.
    pub session: Arc<Session>,
    /// The key that opened it, with its tenant.
    pub key: KeyRecord,
    /// Whether it was unbound meanwhile.
    pub unbound: bool,
}

impl SessionRecord {
    /// Returns when the session expires: no later than its key.
    #[must_use]
    pub fn expires_at(&self) -> UnixMillis {
        self.key
            .expires_at
            .get()
            .map_or(self.session.expires_at, |key_expiry| key_expiry.min(self.session.expires_at))
    }
}

impl CacheableRecord for SessionRecord {
    type Id = SessionId;

    const HAS_PUBLIC_ID: bool = false;

    fn size_bytes(&self) -> usize {
        let session = &self.session;
        let texts = session.id.as_str().len() + session.attributes.heap_bytes();
        size_of::<Session>() + texts + self.key.size_bytes()
    }

    fn id_heap_bytes(id: &SessionId) -> usize {
        id.as_str().len()
    }

    fn dependency_values<'m, T>(&self, values: &'m PerSubject<T>) -> impl Iterator<Item = &'m T> {
        self.key.dependency_values(values).chain(values.sessions.get(&self.session.id))
    }

    fn public_id(&self) -> Option<&PackedKeyId> {
        None
    }

    fn id_of_digest(_: StoredDigest) -> Option<SessionId> {
        None
    }

    fn shared_parts(&mut self) -> SharedParts<'_> {
        let KeyRecord { key_id, tenant, scopes, .. } = &mut self.key;
        SharedParts { tenant, scopes, opened_by: Some(key_id) }
    }

    fn values_by_public_id<T>(_: &PerSubject<T>) -> impl Iterator<Item = (&KeyId, &T)> {
        std::iter::empty()
    }

    fn values_by_id<T>(values: &PerSubject<T>) -> impl Iterator<Item = (&SessionId, &T)> {
        values.sessions.iter()
    }

    fn value_for_id<'m, T>(id: &SessionId, values: &'m PerSubject<T>) -> Option<&'m T> {
        values.sessions.get(id)
    }

    fn reflects(&self, kind: ChangeKind) -> bool {
        match kind {
            ChangeKind::Unbound => self.unbound,
            ChangeKind::Changed | ChangeKind::Revoked(_) | ChangeKind::Disabled | ChangeKind::Suspended => {
                self.key.reflects(kind)
            }
        }
    }

    fn apply_revocation(&mut self, kind: ChangeKind) {
        match kind {
            ChangeKind::Unbound => self.unbound = true,
            ChangeKind::Changed | ChangeKind::Revoked(_) | ChangeKind::Disabled | ChangeKind::Suspended => {
                self.key.apply_revocation(kind)
            }
        }
    }
}
