//! The verdict on a session.

use super::SessionRecord;
use crate::domain::{clock::UnixMillis, network::ClientAddress, scope::ScopeSet, verdict::Verdict};

/// The verdict on a session. Only [`Verdict::Valid`] of its key admits a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionVerdict {
    /// The session is bound and has not expired: the verdict is that on its key.
    Key(Verdict),
    /// The session is bound to no tenant, or was unbound.
    Unbound,
    /// The session has expired.
    Expired,
    /// The session is bound to a different tenant than the presented key.
    TenantMismatch,
}

impl From<Verdict> for SessionVerdict {
    fn from(verdict: Verdict) -> Self {
        Self::Key(verdict)
    }
}

impl SessionVerdict {
    /// The verdict that admits a request.
    pub const VALID: Self = Self::Key(Verdict::Valid);

    /// Number of verdicts: those on a key, and three of sessions.
    pub const COUNT: usize = Verdict::ALL.len() + 3;

    /// Returns all verdicts, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        let own = [Self::Unbound, Self::Expired, Self::TenantMismatch];
        Verdict::ALL.into_iter().map(Self::Key).chain(own)
    }

    /// Returns the index among [all](Self::all).
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Key(verdict) => verdict as usize,
            Self::Unbound => Verdict::ALL.len(),
            Self::Expired => Verdict::ALL.len() + 1,
            Self::TenantMismatch => Verdict::ALL.len() + 2,
        }
    }

    /// Evaluates a session.
    ///
    /// A session never outlives its key: a revoked key takes precedence, and the key's expiry applies to the
    /// session, too.
    #[must_use]
    pub fn evaluate(
        record: &SessionRecord,
        required: &ScopeSet,
        address: Option<ClientAddress>,
        now: UnixMillis,
    ) -> Self {
        if record.unbound {
            return Self::Unbound;
        }
        match Verdict::evaluate(&record.key, required, address, now) {
            revoked @ Verdict::Revoked => Self::Key(revoked),
            _ if record.session.expires_at <= now => Self::Expired,
            verdict => Self::Key(verdict),
        }
    }

    /// Returns the name used in logs and metrics.
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
