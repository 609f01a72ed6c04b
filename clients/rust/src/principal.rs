//! Whose key or session it is.

use std::{collections::BTreeMap, fmt, sync::Arc, time::SystemTime};

/// Whose key or session was decided about, and what it may do. Clones share it.
///
/// Empty for [`Verdict::Unknown`](crate::Verdict::Unknown) and everything else that names nobody.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Principal(Arc<Facts>);

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) tenant_id: String,
    pub(crate) tenant_name: String,
    pub(crate) plan: String,
    pub(crate) key_id: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) expires_at: Option<SystemTime>,
    pub(crate) session_id: Option<String>,
    pub(crate) attributes: BTreeMap<String, String>,
}

impl Principal {
    pub(crate) fn new(facts: Facts) -> Self {
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

    /// Every scope of that key, sorted.
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
        // What a caller attached to a session is the caller's: it may be anything, so no log shows it.
        f.debug_struct("Principal")
            .field("tenant_id", &self.0.tenant_id)
            .field("plan", &self.0.plan)
            .field("key_id", &self.0.key_id)
            .field("scopes", &self.0.scopes)
            .field("expires_at", &self.0.expires_at)
            .field("session_id", &self.0.session_id)
            .finish_non_exhaustive()
    }
}
