//! Who takes what from limits.

use tenant_auth_proto::v1::{self, limit_credential::Credential};

use crate::{
    Client, ClientAddress, Error, KeyQuery, PresentedKey, Validation,
    key_query::address_text,
    near::{AnswerCache, Requirements, Tag},
};

/// An amount of a metric.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cost {
    /// The metric, such as `requests`.
    pub metric: String,
    /// The amount, in the unit of the metric: 1 to 1,000,000,000; also 0 for what was actually used of a reservation.
    pub amount: i64,
}

/// A session to validate, when it takes from limits.
#[derive(Debug)]
pub struct SessionQuery {
    /// The id of the session.
    pub session_id: String,
    /// The key that was presented with it, if any.
    pub key: Option<PresentedKey>,
    /// The scopes that the key which opened the session must hold.
    pub required_scopes: Vec<String>,
    /// The address of the customer, if it is known.
    pub client_address: Option<ClientAddress>,
}

/// Who takes from limits: a key, or a session, which takes from the limits of the key that opened it.
#[derive(Debug)]
pub enum LimitCredential {
    /// A key.
    Key(KeyQuery),
    /// A session.
    Session(SessionQuery),
}

impl Cost {
    /// Creates an amount of a metric.
    #[must_use]
    pub fn new(metric: impl Into<String>, amount: i64) -> Self {
        Self { metric: metric.into(), amount }
    }

    pub(super) fn to_message(&self) -> v1::Cost {
        v1::Cost { metric: self.metric.clone(), amount: self.amount }
    }
}

impl SessionQuery {
    /// Creates a query without required scopes.
    #[must_use]
    pub fn new(session_id: impl Into<String>) -> Self {
        let session_id = session_id.into();
        Self { session_id, key: None, required_scopes: Vec::new(), client_address: None }
    }

    /// Sets the key that was presented with the session.
    #[must_use]
    pub fn with_key(mut self, key: PresentedKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Adds a scope that the key which opened the session must hold.
    #[must_use]
    pub fn requires(mut self, scope: impl Into<String>) -> Self {
        self.required_scopes.push(scope.into());
        self
    }

    /// Sets the address of the customer, which keys that are limited to networks need.
    #[must_use]
    pub fn from_address(mut self, address: impl Into<ClientAddress>) -> Self {
        self.client_address = Some(address.into());
        self
    }
}

impl From<KeyQuery> for LimitCredential {
    fn from(query: KeyQuery) -> Self {
        Self::Key(query)
    }
}

impl From<SessionQuery> for LimitCredential {
    fn from(query: SessionQuery) -> Self {
        Self::Session(query)
    }
}

impl From<PresentedKey> for LimitCredential {
    fn from(key: PresentedKey) -> Self {
        Self::Key(KeyQuery::new(key))
    }
}

impl LimitCredential {
    fn parts(&self) -> (Option<&PresentedKey>, &[String], Option<ClientAddress>) {
        match self {
            Self::Key(query) => (Some(&query.key), &query.required_scopes, query.client_address),
            Self::Session(query) => (query.key.as_ref(), &query.required_scopes, query.client_address),
        }
    }

    /// Returns the session id, if it is a session.
    pub(super) fn session_id(&self) -> Option<&str> {
        match self {
            Self::Key(_) => None,
            Self::Session(query) => Some(&query.session_id),
        }
    }

    /// Returns the decision about a text that is too long to send as a key.
    pub(super) fn malformed(&self) -> Option<Validation> {
        let (key, ..) = self.parts();
        key.filter(|key| key.is_over_max_len())?;
        Some(Validation::malformed(self.session_id()))
    }

    /// Returns the message. `address` is that of a query without one.
    pub(super) fn to_message(&self, address: Option<ClientAddress>) -> v1::LimitCredential {
        let (key, scopes, own_address) = self.parts();
        let key = key.map(|key| key.expose().to_owned()).unwrap_or_default();
        let (required_scopes, client_address) = (scopes.to_vec(), address_text(own_address.or(address)));
        let credential = match self.session_id() {
            None => Credential::Key(v1::ValidateKeyRequest { key, required_scopes, client_address }),
            Some(session_id) => Credential::Session(v1::ValidateSessionRequest {
                session_id: session_id.to_owned(),
                key,
                required_scopes,
                client_address,
            }),
        };
        v1::LimitCredential { credential: Some(credential) }
    }

    pub(super) fn tag(&self, cache: &AnswerCache) -> Tag {
        match self {
            Self::Key(query) => cache.key_tag(query.key.expose()),
            Self::Session(query) => {
                cache.session_tag(&query.session_id, query.key.as_ref().map(PresentedKey::expose))
            }
        }
    }

    /// Calls a function with the requirements. `address` is that of a query without one.
    pub(super) fn with_requirements<T>(
        &self,
        address: Option<ClientAddress>,
        read: impl FnOnce(Requirements<'_>) -> T,
    ) -> T {
        let (_, scopes, own_address) = self.parts();
        let scopes: Vec<_> = scopes.iter().map(String::as_str).collect();
        read(Requirements { scopes: &scopes, client_address: own_address.or(address) })
    }

    /// Validates the key or the session, through the near-cache.
    pub(super) async fn validate(&self, client: &Client) -> Result<Validation, Error> {
        let (key, scopes, own_address) = self.parts();
        let scopes: Vec<_> = scopes.iter().map(String::as_str).collect();
        let client = client.with_client_address(own_address.or(client.limit_address()));
        match (self.session_id(), key) {
            (Some(session_id), key) => client.validate_session(session_id, key, &scopes).await,
            (None, Some(key)) => client.validate(key, &scopes).await,
            (None, None) => Ok(Validation::malformed(None)),
        }
    }
}
