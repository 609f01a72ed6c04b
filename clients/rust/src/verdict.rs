//! The decision about a key or a session.

use std::fmt;

use tenant_auth_proto::v1;

/// The decision about a key or a session. Only [`Verdict::Valid`] admits a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
#[non_exhaustive]
pub enum Verdict {
    /// Known, live, and holding every required scope.
    Valid,
    /// No such key or session.
    Unknown,
    /// The text is not a key.
    Malformed,
    /// The key has expired.
    Expired,
    /// The key was revoked.
    Revoked,
    /// The key is disabled until an operator enables it.
    Disabled,
    /// The key is live, but its tenant is suspended.
    TenantSuspended,
    /// The key is live, but may be used from certain networks only, and the call gave no client address.
    AddressRequired,
    /// The key is live, but may not be used from the client's address.
    AddressNotAllowed,
    /// The key is live, but lacks a required scope.
    InsufficientScope,
    /// A quota or the credits have less left than the request costs.
    QuotaExceeded,
    /// A rate has less left than the request costs.
    RateLimited,
    /// The session is not bound to a tenant.
    Unbound,
    /// The session has expired.
    SessionExpired,
    /// The session belongs to another tenant than the key.
    TenantMismatch,
    /// A value that this client does not know; treated as a denial.
    Unrecognized(i32),
}

impl Verdict {
    /// Returns whether the request may proceed.
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
            Ok(v1::Verdict::Disabled) => Self::Disabled,
            Ok(v1::Verdict::TenantSuspended) => Self::TenantSuspended,
            Ok(v1::Verdict::AddressRequired) => Self::AddressRequired,
            Ok(v1::Verdict::AddressNotAllowed) => Self::AddressNotAllowed,
            Ok(v1::Verdict::InsufficientScope) => Self::InsufficientScope,
            Ok(v1::Verdict::QuotaExceeded) => Self::QuotaExceeded,
            Ok(v1::Verdict::RateLimited) => Self::RateLimited,
            Ok(v1::Verdict::Unbound) => Self::Unbound,
            Ok(v1::Verdict::SessionExpired) => Self::SessionExpired,
            Ok(v1::Verdict::TenantMismatch) => Self::TenantMismatch,
            // The contract never sends "unspecified"; a response with it contains no decision.
            Ok(v1::Verdict::Unspecified) | Err(_) => Self::Unrecognized(number),
        }
    }
}

/// Writes the contract's name without its prefix, such as `INSUFFICIENT_SCOPE`.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Valid => "VALID",
            Self::Unknown => "UNKNOWN",
            Self::Malformed => "MALFORMED",
            Self::Expired => "EXPIRED",
            Self::Revoked => "REVOKED",
            Self::Disabled => "DISABLED",
            Self::TenantSuspended => "TENANT_SUSPENDED",
            Self::AddressRequired => "ADDRESS_REQUIRED",
            Self::AddressNotAllowed => "ADDRESS_NOT_ALLOWED",
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
        for number in [i32::MIN, -1, 0, 16, i32::MAX] {
            let verdict = Verdict::from_wire(number);
            assert_eq!(verdict, Verdict::Unrecognized(number));
            assert!(!verdict.is_valid());
        }
    }

    #[test]
    fn verdict_names_match_the_contract() {
        for number in 1..=15 {
            let name = v1::Verdict::try_from(number).unwrap().as_str_name();
            assert_eq!(format!("VERDICT_{}", Verdict::from_wire(number)), name);
        }
    }
}
