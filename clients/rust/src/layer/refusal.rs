//! What a request that may not go on is answered.

use std::time::Duration;

use http::{
    HeaderValue, Response, StatusCode,
    header::{RETRY_AFTER, WWW_AUTHENTICATE},
};
use tonic::{Code, Status};

use crate::{Denied, Error, Verdict};

/// Unless the service said when to come back.
const RETRY_AFTER_SECONDS: u64 = 1;

/// Why a request may not go on.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It holds no key.
    NoKey,
    /// Its key was decided about.
    Denied(Denied),
    /// Its key could not even be one to the service.
    NotAKey,
    /// Nobody knows now.
    Unknown {
        /// When to ask again.
        retry_after: Option<Duration>,
    },
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match &error {
            // The customer's mistake is a key that breaks the contract; anything else is this side's.
            Error::Invalid { violations, .. } if violations.iter().any(|v| v.field == "key") => Self::NotAKey,
            error => {
                tracing::warn!(%error, "a key was not decided about");
                Self::Unknown { retry_after: error.retry_after() }
            }
        }
    }
}

/// What a refusal means, in whatever protocol.
enum Meaning {
    /// Nobody knows who asks.
    Unauthenticated,
    /// It is known who asks, and they may not.
    Forbidden,
    /// They ask too much.
    TooMuch,
    /// Ask again later.
    Later,
}

impl Refusal {
    fn meaning(&self) -> Meaning {
        match self {
            Self::NoKey | Self::NotAKey => Meaning::Unauthenticated,
            Self::Unknown { .. } => Meaning::Later,
            Self::Denied(denied) => match denied.verdict() {
                Verdict::TenantSuspended | Verdict::InsufficientScope | Verdict::TenantMismatch => {
                    Meaning::Forbidden
                }
                Verdict::QuotaExceeded | Verdict::RateLimited => Meaning::TooMuch,
                Verdict::Valid
                | Verdict::Unknown
                | Verdict::Malformed
                | Verdict::Expired
                | Verdict::Revoked
                | Verdict::Unbound
                | Verdict::SessionExpired
                | Verdict::Unrecognized(_) => Meaning::Unauthenticated,
            },
        }
    }

    fn words(&self) -> String {
        match self {
            Self::NoKey => "a key is required".to_owned(),
            Self::NotAKey => "the key is malformed".to_owned(),
            Self::Denied(denied) if denied.missing_scopes().is_empty() => {
                format!("the key was denied: {}", denied.verdict())
            }
            Self::Denied(denied) => format!("the key lacks {}", denied.missing_scopes().join(" ")),
            Self::Unknown { .. } => "the key cannot be checked now".to_owned(),
        }
    }

    fn retry_after(&self) -> u64 {
        match self {
            Self::Unknown { retry_after: Some(time) } => time.as_secs() + u64::from(time.subsec_nanos() > 0),
            _ => RETRY_AFTER_SECONDS,
        }
    }

    /// The `www-authenticate` of RFC 6750.
    fn challenge(&self) -> String {
        match self {
            Self::NoKey => "Bearer".to_owned(),
            Self::Denied(denied) if denied.verdict() == Verdict::InsufficientScope => {
                format!(
                    "Bearer error=\"insufficient_scope\", scope=\"{}\"",
                    denied.missing_scopes().join(" ")
                )
            }
            _ => format!("Bearer error=\"invalid_token\", error_description=\"{}\"", self.words()),
        }
    }

    pub(super) fn into_http<B: Default>(self) -> Response<B> {
        let mut response = Response::new(B::default());
        let (status, header) = match self.meaning() {
            Meaning::Unauthenticated => {
                (StatusCode::UNAUTHORIZED, Some((WWW_AUTHENTICATE, self.challenge())))
            }
            Meaning::Forbidden if matches!(&self, Self::Denied(v) if !v.missing_scopes().is_empty()) => {
                (StatusCode::FORBIDDEN, Some((WWW_AUTHENTICATE, self.challenge())))
            }
            Meaning::Forbidden => (StatusCode::FORBIDDEN, None),
            Meaning::TooMuch => (StatusCode::TOO_MANY_REQUESTS, None),
            Meaning::Later => {
                (StatusCode::SERVICE_UNAVAILABLE, Some((RETRY_AFTER, self.retry_after().to_string())))
            }
        };
        *response.status_mut() = status;
        if let Some((name, value)) = header
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            response.headers_mut().insert(name, value);
        }
        response
    }

    pub(super) fn into_grpc<B: Default>(self) -> Response<B> {
        let code = match self.meaning() {
            Meaning::Unauthenticated => Code::Unauthenticated,
            Meaning::Forbidden => Code::PermissionDenied,
            Meaning::TooMuch => Code::ResourceExhausted,
            Meaning::Later => Code::Unavailable,
        };
        Status::new(code, self.words()).into_http()
    }
}
