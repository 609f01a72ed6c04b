//! The owner of a key or session, and the proof that it was admitted.

use std::{collections::BTreeMap, fmt, ops::Deref, sync::Arc, time::SystemTime};

use crate::{guard::Credentials, network::AnswerNetworks};

/// The owner of an admitted key or session, and its permissions. Clones share it.
///
/// Only a valid answer contains one: see [`Client::require`](crate::Client::require) and
/// [`Validation::principal`](crate::Validation::principal).
#[derive(Clone)]
pub struct Principal {
    subject: Subject,
    /// What admitted it, for guards. Never printed and never compared.
    credentials: Option<Arc<Credentials>>,
}

/// The owner of a key or session, for logs and displays. It proves nothing, because a denial has one, too.
/// Clones share it.
///
/// Empty for [`Verdict::Unknown`](crate::Verdict::Unknown) and other verdicts without an owner.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Subject(Arc<SubjectFields>);

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SubjectFields {
    pub(crate) tenant_id: String,
    pub(crate) tenant_name: String,
    pub(crate) plan: String,
    pub(crate) key_id: String,
    pub(crate) presented_key_id: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) expires_at: Option<SystemTime>,
    pub(crate) session_id: Option<String>,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) networks: AnswerNetworks,
}

impl Principal {
    /// Creates a principal. Call it only for an answer that admits.
    pub(crate) fn admitted(subject: Subject) -> Self {
        Self { subject, credentials: None }
    }

    pub(crate) fn with_credentials(self, credentials: Credentials) -> Self {
        Self { credentials: Some(Arc::new(credentials)), ..self }
    }

    pub(crate) fn credentials(&self) -> Option<&Arc<Credentials>> {
        self.credentials.as_ref()
    }

    /// Returns the principal that a layer of this crate has put into the extensions of a request.
    #[must_use]
    pub fn of(extensions: &http::Extensions) -> Option<&Self> {
        extensions.get()
    }
}

impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        self.subject == other.subject
    }
}

impl Eq for Principal {}

impl Deref for Principal {
    type Target = Subject;

    fn deref(&self) -> &Subject {
        &self.subject
    }
}

impl Subject {
    pub(crate) fn new(fields: SubjectFields) -> Self {
        Self(Arc::new(fields))
    }

    /// Returns the networks from which the key, or the session and its keys, may be used.
    pub(crate) fn networks(&self) -> &AnswerNetworks {
        &self.0.networks
    }

    /// Returns the id of the tenant that owns the key or session.
    #[must_use]
    pub fn tenant_id(&self) -> &str {
        &self.0.tenant_id
    }

    /// Returns the display name of the tenant.
    #[must_use]
    pub fn tenant_name(&self) -> &str {
        &self.0.tenant_name
    }

    /// Returns the plan of the tenant, an opaque label.
    #[must_use]
    pub fn plan(&self) -> &str {
        &self.0.plan
    }

    /// Returns the public id of the key, or of the key that opened the session; safe to log.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.0.key_id
    }

    /// Returns the public id of the key presented with a session, if it is a key of the session's tenant;
    /// otherwise empty.
    #[must_use]
    pub fn presented_key_id(&self) -> &str {
        &self.0.presented_key_id
    }

    /// Returns all scopes of the key, sorted.
    #[must_use]
    pub fn scopes(&self) -> &[String] {
        &self.0.scopes
    }

    /// Returns whether the key holds a scope. The match is exact: `*` has no special meaning.
    #[must_use]
    pub fn holds(&self, scope: &str) -> bool {
        self.0.scopes.iter().any(|held| held == scope)
    }

    /// Returns the expiry of the key or session; `None` if it does not expire.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.0.expires_at
    }

    /// Returns the session id, if a session was validated.
    #[must_use]
    pub fn session_id(&self) -> Option<&str> {
        self.0.session_id.as_deref()
    }

    /// Returns the attributes that were attached when the session was bound; empty for a key.
    #[must_use]
    pub fn attributes(&self) -> &BTreeMap<String, String> {
        &self.0.attributes
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.subject.fmt_fields("Principal", f)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_fields("Subject", f)
    }
}

impl Subject {
    /// The attributes of a session are data of the calling service and may contain anything, so they are not
    /// logged.
    fn fmt_fields(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("tenant_id", &self.0.tenant_id)
            .field("plan", &self.0.plan)
            .field("key_id", &self.0.key_id)
            .field("presented_key_id", &self.0.presented_key_id)
            .field("scopes", &self.0.scopes)
            .field("expires_at", &self.0.expires_at)
            .field("session_id", &self.0.session_id)
            .finish_non_exhaustive()
    }
}
