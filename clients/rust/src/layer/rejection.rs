//! The response to a request that may not proceed.

use std::{collections::HashMap, time::Duration};

use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use serde_json::json;
use tonic::{Code, Status, codegen::Bytes};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::costs::{add_limit_headers, whole_seconds};
use crate::{Denied, Limits, PrincipalRejected, Verdict, guard::ERROR_DOMAIN};

/// Used unless the service sent a time.
const MIN_RETRY_AFTER_SECONDS: u64 = 1;

/// The reason why a request may not proceed.
#[derive(Debug)]
pub(crate) enum Rejection {
    /// It has no key.
    NoCredentials,
    /// It has more than one credential or session id.
    Ambiguous,
    /// Its credential is not a key.
    Malformed,
    /// Its key was denied.
    Denied(Denied),
    /// Its principal token is refused.
    Principal(PrincipalRejected),
    /// The key cannot be validated now.
    Undecided {
        /// Time to wait before a retry.
        retry_after_seconds: Option<Duration>,
    },
}

/// The meaning of a rejection, independent of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RejectionKind {
    /// The request is invalid.
    Invalid,
    /// The caller is not authenticated.
    Unauthenticated,
    /// The caller is authenticated, but may not proceed.
    Forbidden,
    /// A limit of the tenant is reached.
    RateLimited,
    /// Retry later.
    Unavailable,
}

impl From<PrincipalRejected> for Rejection {
    fn from(rejected: PrincipalRejected) -> Self {
        Self::Principal(rejected)
    }
}

impl Rejection {
    fn kind(&self) -> RejectionKind {
        match self {
            Self::Principal(PrincipalRejected::Invalid(_)) => RejectionKind::Unauthenticated,
            Self::Principal(PrincipalRejected::MissingScopes(_)) => RejectionKind::Forbidden,
            Self::Principal(PrincipalRejected::Outdated | PrincipalRejected::Undecided(_)) => {
                RejectionKind::Unavailable
            }
            Self::Ambiguous => RejectionKind::Invalid,
            Self::NoCredentials | Self::Malformed => RejectionKind::Unauthenticated,
            Self::Undecided { .. } => RejectionKind::Unavailable,
            Self::Denied(denied) => match denied.verdict() {
                Verdict::Unknown | Verdict::Malformed | Verdict::Expired | Verdict::Revoked => {
                    RejectionKind::Unauthenticated
                }
                Verdict::QuotaExceeded | Verdict::RateLimited => RejectionKind::RateLimited,
                // Verdicts about sessions do not occur for a key: treat them like an unknown verdict.
                Verdict::Valid
                | Verdict::Disabled
                | Verdict::TenantSuspended
                | Verdict::AddressRequired
                | Verdict::AddressNotAllowed
                | Verdict::InsufficientScope
                | Verdict::Unbound
                | Verdict::SessionExpired
                | Verdict::TenantMismatch
                | Verdict::Unrecognized(_) => RejectionKind::Forbidden,
            },
        }
    }

    fn code(&self) -> String {
        match self {
            Self::NoCredentials => "NO_CREDENTIALS".to_owned(),
            Self::Ambiguous => "AMBIGUOUS_REQUEST".to_owned(),
            Self::Malformed => Verdict::Malformed.to_string(),
            Self::Denied(denied) => denied.verdict().to_string(),
            Self::Principal(PrincipalRejected::Invalid(_)) => "INVALID_PRINCIPAL".to_owned(),
            Self::Principal(PrincipalRejected::MissingScopes(_)) => Verdict::InsufficientScope.to_string(),
            Self::Principal(PrincipalRejected::Outdated) => "OUTDATED_PRINCIPAL".to_owned(),
            Self::Principal(PrincipalRejected::Undecided(_)) | Self::Undecided { .. } => {
                "UNDECIDED".to_owned()
            }
        }
    }

    fn missing_scopes(&self) -> &[String] {
        match self {
            Self::Denied(denied) if denied.verdict() == Verdict::InsufficientScope => denied.missing_scopes(),
            Self::Principal(PrincipalRejected::MissingScopes(missing)) => missing,
            _ => &[],
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::NoCredentials => "A key is required.".to_owned(),
            Self::Ambiguous => "The request holds more than one credential or session id.".to_owned(),
            Self::Malformed => "The key is malformed.".to_owned(),
            _ if !self.missing_scopes().is_empty() => {
                format!("The key lacks {}.", self.missing_scopes().join(", "))
            }
            Self::Denied(denied) if !denied.limits().is_empty() => {
                let exceeded = denied.limits().iter().filter(|limit| limit.denies());
                let names: Vec<_> = exceeded.map(|limit| limit.name.as_str()).collect();
                format!("The key has reached its limits: {}.", names.join(", "))
            }
            Self::Denied(denied) => format!("The key was denied: {}.", denied.verdict()),
            Self::Principal(PrincipalRejected::Outdated) => "Repeat the request.".to_owned(),
            Self::Principal(PrincipalRejected::Undecided(_)) | Self::Undecided { .. } => {
                "The key cannot be checked now.".to_owned()
            }
            Self::Principal(_) => "The principal token is not valid.".to_owned(),
        }
    }

    /// Returns the limits that decided, if any did.
    fn limits(&self) -> Option<&Limits> {
        match self {
            Self::Denied(denied) => Some(denied.limits()).filter(|limits| !limits.is_empty()),
            _ => None,
        }
    }

    /// Returns whole seconds, at least one; `None` if limits decided and no time is known.
    fn retry_after(&self) -> Option<u64> {
        let time = match self {
            Self::Undecided { retry_after_seconds } => retry_after_seconds.unwrap_or_default(),
            _ => self.limits().map_or(Some(Duration::ZERO), Limits::retry_after)?,
        };
        Some(whole_seconds(time).max(MIN_RETRY_AFTER_SECONDS))
    }

    /// Returns the `www-authenticate` header of RFC 6750, or `retry-after`.
    fn extra_header(&self, kind: RejectionKind) -> Option<(HeaderName, String)> {
        match kind {
            RejectionKind::Unauthenticated if matches!(self, Self::NoCredentials) => {
                Some((WWW_AUTHENTICATE, "Bearer".to_owned()))
            }
            RejectionKind::Unauthenticated => {
                Some((WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"".to_owned()))
            }
            RejectionKind::Forbidden if !self.missing_scopes().is_empty() => {
                let scope = self.missing_scopes().join(" ");
                Some((WWW_AUTHENTICATE, format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"")))
            }
            RejectionKind::RateLimited | RejectionKind::Unavailable => {
                Some((RETRY_AFTER, self.retry_after()?.to_string()))
            }
            RejectionKind::Invalid | RejectionKind::Forbidden => None,
        }
    }

    /// Returns the rejection as `application/problem+json` (RFC 9457).
    pub(crate) fn into_http(self) -> Response<Full<Bytes>> {
        let kind = self.kind();
        let status = match kind {
            RejectionKind::Invalid => StatusCode::BAD_REQUEST,
            RejectionKind::Unauthenticated => StatusCode::UNAUTHORIZED,
            RejectionKind::Forbidden => StatusCode::FORBIDDEN,
            RejectionKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            RejectionKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut response = problem(status, &self.code(), &self.detail(), self.missing_scopes());
        if let Some((name, value)) = self.extra_header(kind)
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            response.headers_mut().insert(name, value);
        }
        if let Some(limits) = self.limits() {
            add_limit_headers(response.headers_mut(), limits);
        }
        response
    }

    /// Returns the status code of the rejection over gRPC.
    pub(crate) fn grpc_code(&self) -> Code {
        match self.kind() {
            RejectionKind::Invalid => Code::InvalidArgument,
            RejectionKind::Unauthenticated => Code::Unauthenticated,
            RejectionKind::Forbidden => Code::PermissionDenied,
            RejectionKind::RateLimited => Code::ResourceExhausted,
            RejectionKind::Unavailable => Code::Unavailable,
        }
    }

    pub(super) fn into_grpc(self) -> Response<Full<Bytes>> {
        let (code, detail) = (self.grpc_code(), self.detail());
        match self.error_details() {
            Some(details) => Status::with_error_details(code, detail, details),
            None => Status::new(code, detail),
        }
        .into_http()
    }

    /// Returns the details of a denial by limits.
    fn error_details(&self) -> Option<ErrorDetails> {
        let (Self::Denied(denied), Some(limits)) = (self, self.limits()) else { return None };
        let mut details = ErrorDetails::with_error_info(self.code(), ERROR_DOMAIN, HashMap::new());
        for limit in limits.iter().filter(|limit| limit.denies()) {
            let subject = format!("tenant:{}", denied.subject().tenant_id());
            let (name, metric, left, all) = (&limit.name, &limit.metric, limit.remaining, limit.limit);
            details
                .add_quota_failure_violation(subject, format!("{name}: {left} of {all} {metric} are left"));
        }
        if let Some(time) = limits.retry_after() {
            details.set_retry_info(Some(time));
        }
        Some(details)
    }
}

/// Returns a response with `application/problem+json`.
pub(crate) fn problem(
    status: StatusCode,
    code: &str,
    detail: &str,
    missing_scopes: &[String],
) -> Response<Full<Bytes>> {
    let mut problem = json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
        "code": code,
    });
    if !missing_scopes.is_empty() {
        problem["missing_scopes"] = json!(missing_scopes);
    }
    let mut response = Response::new(Full::from(problem.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
