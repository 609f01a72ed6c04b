//! The decision about a session.

use super::SessionRecord;
use crate::domain::{clock::UnixMillis, scope::ScopeSet, verdict::Verdict};

/// The decision about a session. Only [`Verdict::Valid`] of its key admits a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionVerdict {
    /// It is bound and live: what there is to say about the key that opened it.
    Key(Verdict),
    /// It is bound to no tenant, or was ended.
    Unbound,
    /// Its lifetime is over.
    Expired,
    /// It is bound to another tenant than that of the presented key.
    TenantMismatch,
}

impl From<Verdict> for SessionVerdict {
    fn from(verdict: Verdict) -> Self {
        Self::Key(verdict)
    }
}

impl SessionVerdict {
    /// The one that admits.
    pub const VALID: Self = Self::Key(Verdict::Valid);

    /// Judges a known session.
    ///
    /// A session never outlives its key: a withdrawn key says so first, and its own end ends the session too.
    #[must_use]
    pub fn on(record: &SessionRecord, required: &ScopeSet, now: UnixMillis) -> Self {
        if record.unbound {
            return Self::Unbound;
        }
        match Verdict::on(&record.key, required, now) {
            revoked @ Verdict::Revoked => Self::Key(revoked),
            _ if record.session.expires_at <= now => Self::Expired,
            verdict => Self::Key(verdict),
        }
    }

    /// As logs and metrics write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key(verdict) => verdict.as_str(),
            Self::Unbound => "unbound",
            Self::Expired => "session_expired",
            Self::TenantMismatch => "tenant_mismatch",
        }
    }
}
