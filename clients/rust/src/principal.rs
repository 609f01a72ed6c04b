//! Whose key or session it is, and the proof that it was admitted.

use std::{collections::BTreeMap, fmt, ops::Deref, sync::Arc, time::SystemTime};

/// Whose key or session was admitted, and what it may do. Clones share it.
///
/// Only a valid answer gives one: [`Client::require`](crate::Client::require),
/// [`Validation::principal`](crate::Validation::principal).
#[derive(Clone, PartialEq, Eq)]
pub struct Principal(Subject);

/// Whose key or session an answer is about, for logs and displays: it proves nothing, since a denial has one, too. Clones
/// share it.
///
/// Empty for [`Verdict::Unknown`](crate::Verdict::Unknown) and everything else that names nobody.
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
}

impl Principal {
    /// For an answer that admits.
    pub(crate) fn admitted(subject: Subject) -> Self {
        Self(subject)
    }
}

impl Deref for Principal {
    type Target = Subject;

    fn deref(&self) -> &Subject {
        &self.0
    }
}

impl Subject {
    pub(crate) fn new(facts: SubjectFields) -> Self {
        Self(Arc::new(facts))
    }

    /// The tenant that owns the key or session.
    #[must_use]
    pub fn tenant_id(&self) -> &str {
        &self.0.tenant_id
    }

    /// The tenant's display name.
    #[must_use]
    pub fn tenant_name(&self) -> &str {
        &self.0.tenant_name
    }

    /// The tenant's plan, an opaque label.
    #[must_use]
    pub fn plan(&self) -> &str {
        &self.0.plan
    }

    /// The public id of the key, or of the key that opened the session; safe to log.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.0.key_id
    }

    /// The public id of the key presented along with a session, where it is a key of the session's tenant; else empty.
    #[must_use]
    pub fn presented_key_id(&self) -> &str {
        &self.0.presented_key_id
    }

    /// Every scope of the key, sorted.
    #[must_use]
    pub fn scopes(&self) -> &[String] {
        &self.0.scopes
    }

    /// Whether the key holds a scope. Matched exactly: `*` has no meaning of its own.
    #[must_use]
    pub fn holds(&self, scope: &str) -> bool {
        self.0.scopes.iter().any(|held| held == scope)
    }

    /// When the key or the session ends by itself; `None`: never.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.0.expires_at
    }

    /// The session, when it was one that was asked about.
    #[must_use]
    pub fn session_id(&self) -> Option<&str> {
        self.0.session_id.as_deref()
    }

    /// What was attached when the session was bound; empty for a key.
    #[must_use]
    pub fn attributes(&self) -> &BTreeMap<String, String> {
        &self.0.attributes
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_fields("Principal", f)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_fields("Subject", f)
    }
}

impl Subject {
    /// What a caller attached to a session is the caller's: it may be anything, so no log shows it.
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
