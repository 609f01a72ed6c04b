//! What is known of a session.

use std::time::Duration;

use thiserror::Error;

use super::{Attributes, SessionId};
use crate::domain::{
    change::{CacheableRecord, ChangeKind, PerSubject},
    clock::UnixMillis,
    id::{KeyId, TenantId},
    key::KeyRecord,
};

/// How a session's end moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionExpiry {
    /// It ends its time to live after it was bound.
    Fixed,
    /// It ends its time to live after it was last validated.
    Sliding,
}

/// How long a session lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl(Duration);

/// Why a time to live was refused. The message completes the sentence "the value …".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidTtl {
    /// Too short or too long.
    #[error("must be from 1s to 30 days")]
    OutOfRange,
    /// A sliding end is written down every few seconds, so it must not be nearer than that.
    #[error("must be at least 60s for a sliding session")]
    TooShortForSliding,
}

impl Ttl {
    /// Accepts 1 s to 30 days, and 60 s at least where the end slides.
    ///
    /// # Errors
    /// When it is outside of that.
    pub fn new(ttl: Duration, expiry: SessionExpiry) -> Result<Self, InvalidTtl> {
        if !(Duration::from_secs(1)..=Duration::from_secs(30 * 86_400)).contains(&ttl) {
            return Err(InvalidTtl::OutOfRange);
        }
        if expiry == SessionExpiry::Sliding && ttl < Duration::from_secs(60) {
            return Err(InvalidTtl::TooShortForSliding);
        }
        Ok(Self(ttl))
    }

    /// What was stored, which was accepted once.
    #[must_use]
    pub fn from_stored(ttl: Duration) -> Self {
        Self(ttl)
    }

    /// The time.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0
    }

    /// How coarse a sliding end is: a tenth of the time to live, a minute at most.
    #[must_use]
    pub fn slide_granularity(self) -> Duration {
        (self.0 / 10).min(Duration::from_secs(60))
    }
}

/// A session as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The tenant that it is bound to.
    pub tenant_id: TenantId,
    /// The key that opened it.
    pub key_id: KeyId,
    /// When it was bound.
    pub created_at: UnixMillis,
    /// When it ends by itself.
    pub expires_at: UnixMillis,
    /// How that end moves.
    pub expiry: SessionExpiry,
    /// How long it lives.
    pub ttl: Ttl,
    /// What the caller attached.
    pub attributes: Attributes,
}

/// A session to bind.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Its id.
    pub id: SessionId,
    /// The tenant to bind it to.
    pub tenant_id: TenantId,
    /// The key that opens it.
    pub key_id: KeyId,
    /// How long it lives, from the moment of the binding by the database's clock.
    pub ttl: Ttl,
    /// How its end moves.
    pub expiry: SessionExpiry,
    /// What the caller attaches.
    pub attributes: Attributes,
    /// Names this call: one that is repeated after a lost answer knows its own work by it.
    pub bind_id: String,
    /// The most sessions that the tenant may have.
    pub max_sessions: u32,
}

/// What became of a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredBinding {
    /// It is bound; as it was, if it had been bound before this call.
    Bound {
        /// The session as stored.
        session: Box<Session>,
        /// Whether it was bound before.
        already: bool,
    },
    /// Another tenant holds the id.
    HeldByAnotherTenant,
    /// The tenant has as many as it may have.
    TooMany,
}

/// What a verdict depends on: a session together with its key and tenant, as of one read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// The session.
    pub session: Session,
    /// The key that opened it, and its tenant.
    pub key: KeyRecord,
    /// Whether it was ended since.
    pub unbound: bool,
}

impl SessionRecord {
    /// When it ends by itself: never later than its key.
    #[must_use]
    pub fn expires_at(&self) -> UnixMillis {
        self.key.expires_at.map_or(self.session.expires_at, |end| end.min(self.session.expires_at))
    }
}

impl CacheableRecord for SessionRecord {
    type Id = SessionId;

    fn size_bytes(&self) -> usize {
        let session = &self.session;
        let texts = session.id.as_str().len() + session.attributes.heap_bytes();
        size_of::<Session>() + texts + self.key.size_bytes()
    }

    fn dependency_values<'m, T>(&self, values: &'m PerSubject<T>) -> impl Iterator<Item = &'m T> {
        self.key.dependency_values(values).chain(values.sessions.get(&self.session.id))
    }

    fn own_value<'m, T>(&self, values: &'m PerSubject<T>) -> Option<&'m T> {
        values.sessions.get(&self.session.id)
    }

    fn values_without_record_id<T>(_: &PerSubject<T>) -> impl Iterator<Item = &T> {
        std::iter::empty()
    }

    fn values_by_id<T>(values: &PerSubject<T>) -> impl Iterator<Item = (&SessionId, &T)> {
        values.sessions.iter()
    }

    fn value_for_id<'m, T>(id: &SessionId, values: &'m PerSubject<T>) -> Option<&'m T> {
        values.sessions.get(id)
    }

    fn reflects(&self, fate: ChangeKind) -> bool {
        match fate {
            ChangeKind::Unbound => self.unbound,
            ChangeKind::Changed | ChangeKind::Revoked(_) | ChangeKind::Suspended => self.key.reflects(fate),
        }
    }

    fn apply_revocation(&mut self, fate: ChangeKind) {
        match fate {
            ChangeKind::Unbound => self.unbound = true,
            ChangeKind::Changed | ChangeKind::Revoked(_) | ChangeKind::Suspended => {
                self.key.apply_revocation(fate)
            }
        }
    }
}
