//! Why a request is not admitted, and the HTTP response that says so. The same as in the adapters of the clients.

use std::time::Duration;

use serde::Serialize;

use super::route::InvalidRoute;
use crate::domain::verdict::{Decision, Verdict};

/// Content type of [`Refusal::problem`] (RFC 9457).
pub(super) const PROBLEM_CONTENT_TYPE: &str = "application/problem+json";

/// Why a request is not admitted.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It has no key.
    NoCredentials,
    /// It has several different keys.
    Ambiguous,
    /// Its key was denied.
    Denied(Box<Decision>),
    /// Its key cannot be decided now.
    Undecided {
        /// How long to wait before a retry.
        retry_after: Duration,
    },
    /// The configuration of the proxy is wrong: its customers are not to blame.
    Misconfigured(String),
    /// The proxy itself may not ask: its token or its role is missing. Its customers are not to blame.
    ProxyRejected,
}

impl From<InvalidRoute> for Refusal {
    fn from(invalid: InvalidRoute) -> Self {
        Self::Misconfigured(invalid.to_string())
    }
}

/// The body of a response (RFC 9457). Only ASCII, on one line.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    code: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing_scopes: Vec<&'a str>,
}

/// Maximum length of a text in a header that grows with the number of scopes, in bytes.
const MAX_HEADER_TEXT: usize = 512;

/// How long a proxy that is misconfigured, or its customers, wait before a retry.
const OPERATOR_RETRY_AFTER: Duration = Duration::from_secs(10);

impl Refusal {
    /// Of a request that could not be decided, without another retry delay.
    pub(super) const UNDECIDED: Self = Self::Undecided { retry_after: Duration::from_secs(1) };

    /// Returns the refusal of a request that could not be decided.
    pub(super) fn undecided(retry_after: Option<Duration>) -> Self {
        retry_after.map_or(Self::UNDECIDED, |retry_after| Self::Undecided { retry_after })
    }

    /// Returns the HTTP status.
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::NoCredentials => 401,
            Self::Ambiguous => 400,
            Self::Undecided { .. } | Self::Misconfigured(_) | Self::ProxyRejected => 503,
            Self::Denied(decision) => match decision.verdict {
                Verdict::Unknown | Verdict::Malformed | Verdict::Expired | Verdict::Revoked => 401,
                // A valid key is not refused; if it were, it would not be admitted either.
                Verdict::Valid
                | Verdict::Disabled
                | Verdict::TenantSuspended
                | Verdict::AddressRequired
                | Verdict::AddressNotAllowed
                | Verdict::InsufficientScope => 403,
            },
        }
    }

    /// Returns the machine-readable reason.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::NoCredentials => "NO_CREDENTIALS",
            Self::Ambiguous => "AMBIGUOUS_REQUEST",
            Self::Undecided { .. } => "UNDECIDED",
            Self::Misconfigured(_) => "PROXY_MISCONFIGURED",
            Self::ProxyRejected => "UNKNOWN_CALLER",
            Self::Denied(decision) => match decision.verdict {
                Verdict::Valid => "VALID",
                Verdict::Unknown => "UNKNOWN",
                Verdict::Malformed => "MALFORMED",
                Verdict::Expired => "EXPIRED",
                Verdict::Revoked => "REVOKED",
                Verdict::Disabled => "DISABLED",
                Verdict::TenantSuspended => "TENANT_SUSPENDED",
                Verdict::AddressRequired => "ADDRESS_REQUIRED",
                Verdict::AddressNotAllowed => "ADDRESS_NOT_ALLOWED",
                Verdict::InsufficientScope => "INSUFFICIENT_SCOPE",
            },
        }
    }

    fn missing_scopes(&self) -> Vec<&str> {
        match self {
            Self::Denied(decision) => decision.missing_scopes.iter().collect(),
            _ => Vec::new(),
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::NoCredentials => "A key is required.".to_owned(),
            Self::Ambiguous => "The request holds more than one credential.".to_owned(),
            Self::Denied(_) if !self.missing_scopes().is_empty() => {
                let scopes = self.missing_scopes().join(", ");
                if scopes.len() > MAX_HEADER_TEXT {
                    "The key lacks required scopes.".to_owned()
                } else {
                    format!("The key lacks {scopes}.")
                }
            }
            Self::Denied(_) => format!("The key was denied: {}.", self.code()),
            Self::Undecided { .. } => "The key cannot be checked now.".to_owned(),
            Self::Misconfigured(problem) => format!("The proxy is misconfigured: {problem}."),
            Self::ProxyRejected => "The proxy may not ask for the check of a key.".to_owned(),
        }
    }

    /// Returns the value of `www-authenticate` (RFC 6750), for 401 and for missing scopes.
    pub(super) fn challenge(&self) -> Option<String> {
        let scopes = self.missing_scopes().join(" ");
        match self {
            Self::NoCredentials => Some("Bearer".to_owned()),
            _ if self.status() == 401 => Some("Bearer error=\"invalid_token\"".to_owned()),
            _ if scopes.is_empty() => None,
            // A proxy has a buffer of a few kilobytes for all headers of an answer.
            _ if scopes.len() > MAX_HEADER_TEXT => Some("Bearer error=\"insufficient_scope\"".to_owned()),
            _ => Some(format!("Bearer error=\"insufficient_scope\", scope=\"{scopes}\"")),
        }
    }

    /// Returns the value of `retry-after` in whole seconds, at least 1, for 503.
    pub(super) fn retry_after(&self) -> Option<u64> {
        let time = match self {
            Self::Undecided { retry_after } => *retry_after,
            Self::Misconfigured(_) | Self::ProxyRejected => OPERATOR_RETRY_AFTER,
            Self::NoCredentials | Self::Ambiguous | Self::Denied(_) => return None,
        };
        Some(time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)).max(1))
    }

    /// Returns the body of the response, for a header: without scopes that make it long.
    pub(super) fn problem_header(&self) -> String {
        let is_long = self.missing_scopes().iter().map(|scope| scope.len()).sum::<usize>() > MAX_HEADER_TEXT;
        self.problem_with(if is_long { Vec::new() } else { self.missing_scopes() })
    }

    /// Returns the body of the response.
    pub(super) fn problem(&self) -> String {
        self.problem_with(self.missing_scopes())
    }

    fn problem_with(&self, missing_scopes: Vec<&str>) -> String {
        let status = self.status();
        let problem = Problem {
            r#type: "about:blank",
            title: match status {
                400 => "Bad Request",
                401 => "Unauthorized",
                403 => "Forbidden",
                _ => "Service Unavailable",
            },
            status,
            detail: self.detail(),
            code: self.code(),
            missing_scopes,
        };
        // Texts and numbers always serialize.
        serde_json::to_string(&problem).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        scope::{Scope, ScopeSet},
        verdict::Provenance,
    };

    fn denied(verdict: Verdict, missing: &[&str]) -> Refusal {
        let missing = missing.iter().map(|name| Scope::parse(name).unwrap()).collect();
        Refusal::Denied(Box::new(Decision {
            verdict,
            key: None,
            missing_scopes: ScopeSet::new(missing).unwrap(),
            provenance: Provenance::NO_LOOKUP,
        }))
    }

    #[test]
    fn only_what_is_known_to_be_wrong_is_a_denial() {
        let undecided = Refusal::Undecided { retry_after: Duration::from_millis(1_200) };
        let ours = [undecided, Refusal::Misconfigured(String::new()), Refusal::ProxyRejected];
        assert_eq!(ours.each_ref().map(Refusal::status), [503; 3]);
        assert_eq!(ours.each_ref().map(Refusal::retry_after), [Some(2), Some(10), Some(10)]);
        assert_eq!(ours.each_ref().map(Refusal::challenge), [None, None, None]);
        for verdict in Verdict::ALL {
            let refusal = denied(verdict, &[]);
            assert!([401, 403].contains(&refusal.status()) && refusal.retry_after().is_none());
            assert_eq!(refusal.challenge().is_some(), refusal.status() == 401, "{verdict:?}");
            assert_eq!(refusal.code().to_lowercase(), verdict.as_str());
        }
    }

    #[test]
    fn every_code_is_counted_by_itself() {
        let undecided = Refusal::UNDECIDED;
        let others = [Refusal::NoCredentials, Refusal::Ambiguous, Refusal::ProxyRejected, undecided];
        let misconfigured = Refusal::Misconfigured(String::new());
        let denials = Verdict::ALL.into_iter().filter(|verdict| *verdict != Verdict::Valid);
        for refusal in denials.map(|verdict| denied(verdict, &[])).chain(others).chain([misconfigured]) {
            let counts = crate::forward::counts::DoorCounts::default();
            counts.add(crate::forward::counts::Door::Nginx, refusal.code(), Duration::ZERO);
            let counted: Vec<_> = counts.requests().filter(|(.., count)| *count > 0).collect();
            assert_eq!(counted.len(), 1);
            assert_eq!(counted[0].1, refusal.code());
        }
    }

    #[test]
    fn problem_names_the_missing_scopes() {
        let refusal = denied(Verdict::InsufficientScope, &["a:r", "b"]);
        assert_eq!(
            refusal.problem(),
            r#"{"type":"about:blank","title":"Forbidden","status":403,"detail":"The key lacks a:r, b.","code":"INSUFFICIENT_SCOPE","missing_scopes":["a:r","b"]}"#
        );
        assert_eq!(
            refusal.challenge().as_deref(),
            Some(r#"Bearer error="insufficient_scope", scope="a:r b""#)
        );
        assert_eq!(
            Refusal::NoCredentials.problem(),
            r#"{"type":"about:blank","title":"Unauthorized","status":401,"detail":"A key is required.","code":"NO_CREDENTIALS"}"#
        );
    }

    #[test]
    fn headers_of_a_refusal_stay_short() {
        let scopes: Vec<_> = (0..32).map(|n| format!("{n:02}{}", "x".repeat(62))).collect();
        let scopes: Vec<_> = scopes.iter().map(String::as_str).collect();
        let refusal = denied(Verdict::InsufficientScope, &scopes);
        assert!(refusal.problem_header().len() < 256 && refusal.challenge().unwrap().len() < 64);
        assert!(refusal.problem().len() > 32 * 64, "the body has all scopes");
    }

    #[test]
    fn problem_is_one_line_of_ascii() {
        let route = super::super::route::Route::parse([("scopes\n".into(), "a".into())].into_iter());
        let problem = Refusal::from(route.unwrap_err()).problem();
        assert!(problem.is_ascii() && !problem.contains('\n'), "{problem}");
    }
}
