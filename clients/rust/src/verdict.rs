//! What was decided.

use std::fmt;

use tenant_auth_proto::v1;

/// The decision about a key. Only [`Verdict::Valid`] admits a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
#[non_exhaustive]
pub enum Verdict {
    /// Known, live, and holding every scope that was asked for.
    Valid,
    /// No such key or session.
    Unknown,
    /// The text cannot be a key.
    Malformed,
    /// The key's lifetime is over.
    Expired,
    /// The key was withdrawn.
    Revoked,
    /// The key is live; its tenant is suspended.
    TenantSuspended,
    /// The key is live; it lacks a required scope.
    InsufficientScope,
    /// The tenant has used up its quota.
    QuotaExceeded,
    /// The tenant calls too often.
    RateLimited,
    /// The session is bound to no tenant.
    Unbound,
    /// The session's lifetime is over.
    SessionExpired,
    /// The session belongs to another tenant than the key.
    TenantMismatch,
    /// A number this client does not know: a denial, as long as nobody knows better.
    Unrecognized(i32),
}

impl Verdict {
    /// Whether the request may proceed.
    #[must_use]
    pub fn is_valid(self) -> bool {
        self == Self::Valid
    }

    pub(crate) fn from_wire(number: i32) -> Self {
        match v1::Verdict::try_from(number) {
            Ok(v1::Verdict::Valid) => Self::Valid,
            Ok(v1::Verdict::Unknown) => Self::Unknown,
            Ok(v1::Verdict::Malformed) => Self::Malformed,
            Ok(v1::Verdict::Expired) => Self::Expired,
            Ok(v1::Verdict::Revoked) => Self::Revoked,
            Ok(v1::Verdict::TenantSuspended) => Self::TenantSuspended,
            Ok(v1::Verdict::InsufficientScope) => Self::InsufficientScope,
            Ok(v1::Verdict::QuotaExceeded) => Self::QuotaExceeded,
            Ok(v1::Verdict::RateLimited) => Self::RateLimited,
            Ok(v1::Verdict::Unbound) => Self::Unbound,
            Ok(v1::Verdict::SessionExpired) => Self::SessionExpired,
            Ok(v1::Verdict::TenantMismatch) => Self::TenantMismatch,
            // The contract never sends "unspecified"; a sender that does has decided nothing.
            Ok(v1::Verdict::Unspecified) | Err(_) => Self::Unrecognized(number),
        }
    }
}

/// The contract's name without its prefix, such as `INSUFFICIENT_SCOPE`.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Valid => "VALID",
            Self::Unknown => "UNKNOWN",
            Self::Malformed => "MALFORMED",
            Self::Expired => "EXPIRED",
            Self::Revoked => "REVOKED",
            Self::TenantSuspended => "TENANT_SUSPENDED",
            Self::InsufficientScope => "INSUFFICIENT_SCOPE",
            Self::QuotaExceeded => "QUOTA_EXCEEDED",
            Self::RateLimited => "RATE_LIMITED",
            Self::Unbound => "UNBOUND",
            Self::SessionExpired => "SESSION_EXPIRED",
            Self::TenantMismatch => "TENANT_MISMATCH",
            Self::Unrecognized(number) => return write!(f, "UNRECOGNIZED({number})"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_valid_number_is_valid() {
        let admitted: Vec<_> = (-1..100).filter(|number| Verdict::from_wire(*number).is_valid()).collect();
        assert_eq!(admitted, [1]);
    }

    #[test]
    fn unknown_verdict_numbers_are_kept_and_denied() {
        for number in [i32::MIN, -1, 0, 13, i32::MAX] {
            let verdict = Verdict::from_wire(number);
            assert_eq!(verdict, Verdict::Unrecognized(number));
            assert!(!verdict.is_valid());
        }
    }

    #[test]
    fn verdict_names_match_the_contract() {
        for number in 1..=12 {
            let name = v1::Verdict::try_from(number).unwrap().as_str_name();
            assert_eq!(format!("VERDICT_{}", Verdict::from_wire(number)), name);
        }
    }
}
