//! Why a guarded stream ended.

use std::collections::HashMap;

use serde_json::{Value, json};
use thiserror::Error;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{Denied, Error, layer::Rejection};

/// The domain of the error details.
pub(crate) const ERROR_DOMAIN: &str = "tenantauth";
/// WebSocket close codes of RFC 6455 and its registry.
const CLOSE_POLICY_VIOLATION: u16 = 1_008;
const CLOSE_TRY_AGAIN_LATER: u16 = 1_013;

/// The reason why a guard ended a stream.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// The key or the session was denied: revoked, suspended, unbound, and so on.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The key or the session has expired.
    #[error("expired")]
    Expired,
    /// Nothing was decided for too long.
    #[error("undecided: {0}")]
    Undecided(Error),
}

impl Ended {
    /// Returns the verdict, such as `REVOKED`, or `UNDECIDED`.
    #[must_use]
    pub fn code(&self) -> String {
        match self {
            Self::Denied(denied) => denied.verdict().to_string(),
            Self::Expired => "EXPIRED".to_owned(),
            Self::Undecided(_) => "UNDECIDED".to_owned(),
        }
    }

    /// Returns a sentence for the peer, without internal details.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Denied(denied) => {
                format!("The stream ended because the key was denied: {}.", denied.verdict())
            }
            Self::Expired => "The stream ended because the key has expired.".to_owned(),
            Self::Undecided(_) => "The stream ended because the key cannot be checked now.".to_owned(),
        }
    }

    /// Returns the close code of a WebSocket: 1008 for a decision, 1013 (try again later) without one. The reason of the
    /// close frame is [`Self::code`].
    #[must_use]
    pub fn close_code(&self) -> u16 {
        if matches!(self, Self::Undecided(_)) { CLOSE_TRY_AGAIN_LATER } else { CLOSE_POLICY_VIOLATION }
    }

    /// Returns the end as an object of JSON: `code` and `detail`.
    pub(crate) fn to_json(&self) -> Value {
        json!({ "code": self.code(), "detail": self.detail() })
    }
}

/// UNAUTHENTICATED, PERMISSION_DENIED or RESOURCE_EXHAUSTED as for a request with this verdict, or UNAVAILABLE; with an
/// `ErrorInfo` whose reason is [`Ended::code`].
impl From<Ended> for Status {
    fn from(ended: Ended) -> Self {
        let (reason, detail) = (ended.code(), ended.detail());
        let code = match ended {
            Ended::Denied(denied) => Rejection::Denied(denied).grpc_code(),
            Ended::Expired => tonic::Code::Unauthenticated,
            Ended::Undecided(_) => tonic::Code::Unavailable,
        };
        let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, HashMap::new());
        Self::with_error_details(code, detail, details)
    }
}
