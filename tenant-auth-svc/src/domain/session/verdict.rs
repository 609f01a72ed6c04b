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

    /// How many verdicts there are: those of a key, and three of its own.
    pub const COUNT: usize = Verdict::ALL.len() + 3;

    /// Every verdict, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        let own = [Self::Unbound, Self::Expired, Self::TenantMismatch];
        Verdict::ALL.into_iter().map(Self::Key).chain(own)
    }

    /// Its place among [all](Self::all).
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Key(verdict) => verdict as usize,
            Self::Unbound => Verdict::ALL.len(),
            Self::Expired => Verdict::ALL.len() + 1,
            Self::TenantMismatch => Verdict::ALL.len() + 2,
        }
    }

    /// Judges a known session.
    ///
    /// A session never outlives its key: a withdrawn key says so first, and its own end ends the session too.
    #[must_use]
    pub fn evaluate(record: &SessionRecord, required: &ScopeSet, now: UnixMillis) -> Self {
        if record.unbound {
            return Self::Unbound;
        }
        match Verdict::evaluate(&record.key, required, now) {
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
