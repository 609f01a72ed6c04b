//! Inputs, results and errors of the session use cases.

use thiserror::Error;

use crate::domain::{
    clock::UnixMillis,
    id::{KeyId, TenantId},
    key::{KeyRecord, PresentedKey},
    network::{AllowedNetworks, ClientAddress},
    scope::ScopeSet,
    session::{Attributes, Session, SessionExpiry, SessionId, SessionRecord, SessionVerdict, Ttl},
    store::StoreError,
    verdict::Provenance,
};

/// A session to bind to the tenant of a key.
#[derive(Debug)]
pub struct SessionToBind {
    /// Id of the session.
    pub id: SessionId,
    /// The key that opens it, as presented.
    pub key: PresentedKey,
    /// Its time to live.
    pub ttl: Ttl,
    /// Whether its expiry is fixed or sliding.
    pub expiry: SessionExpiry,
    /// Attributes that are returned by each validation.
    pub attributes: Attributes,
    /// The address that the request comes from; `None` if it is unknown.
    pub client_address: Option<ClientAddress>,
}

/// The outcome of a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindOutcome {
    /// The session is bound. If it was bound before this call, it is unchanged.
    Bound {
        /// The session as stored.
        session: Box<Session>,
        /// Whether it was bound before.
        already: bool,
    },
    /// The session is not bound, for this reason; with the record of the presented key, if it exists.
    Denied(SessionVerdict, Option<KeyRecord>),
}

/// A request to validate a session.
#[derive(Debug)]
pub struct SessionQuery {
    /// Id of the session.
    pub id: SessionId,
    /// The key presented with the session, if any.
    pub key: Option<PresentedKey>,
    /// Scopes that the session's key must have.
    pub required_scopes: ScopeSet,
    /// The address that the request comes from; `None` if it is unknown.
    pub client_address: Option<ClientAddress>,
}

/// A verdict on a session, with the data for the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionDecision {
    /// The verdict.
    pub verdict: SessionVerdict,
    /// The session, if the caller may see it.
    pub session: Option<SessionRecord>,
    /// When it expires.
    pub expires_at: Option<UnixMillis>,
    /// Required scopes that its key lacks.
    pub missing_scopes: ScopeSet,
    /// The presented key, if it belongs to the session's tenant, and is valid from an allowed address.
    pub presented_key: Option<KeyId>,
    /// The networks from which the presented key may be used, if it is not the session's key.
    pub presented_key_networks: AllowedNetworks,
    /// Source, age and reuse of the answer.
    pub provenance: Provenance,
}

/// Why a session could not be bound, unbound or listed.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The tenant has reached its session limit.
    #[error("the tenant has reached its limit of {cap} sessions: unbind one, or wait until one expires")]
    TooMany {
        /// The limit.
        cap: u32,
    },
    /// There is no such tenant.
    #[error("there is no tenant {0}")]
    NoSuchTenant(TenantId),
    /// The database call failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
