//! The errors of a call. Only this module maps a gRPC status to an error of this crate.

use std::{error::Error as StdError, fmt, time::Duration};

use prost::Message as _;
use thiserror::Error;
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The reason why there is no answer. It never means "no such key": that is a verdict.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A setting is invalid, such as an endpoint without a host.
    #[error("{message}")]
    Setup {
        /// What is wrong.
        message: String,
    },
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
    /// The function for the caller token has not returned one, so nothing was sent.
    #[error("{message}")]
    NoCallerToken {
        /// What is wrong; never contains the token.
        message: String,
    },
    /// The service was not reached, or the connection was lost before the response.
    #[error("no response from the service: {message}")]
    Unreachable {
        /// The error of the connection.
        message: String,
    },
    /// The service cannot decide now, usually because its database does not respond.
    #[error("unavailable: {message}")]
    Unavailable {
        /// The message of the service.
        message: String,
        /// A machine-readable reason, such as `DATABASE_UNREACHABLE`.
        reason: Option<String>,
        /// Time to wait before a retry, if the service sent one.
        retry_after: Option<Duration>,
    },
    /// The service is overloaded, or a limit is reached.
    #[error("overloaded: {message}")]
    Overloaded {
        /// The message of the service.
        message: String,
        /// Time to wait before a retry, if the service sent one.
        retry_after: Option<Duration>,
    },
    /// The call exceeded its timeout. It is unknown whether a change was made.
    #[error("no response within the timeout")]
    DeadlineExceeded,
    /// The request breaks the contract.
    #[error("invalid request: {message}")]
    Invalid {
        /// The message of the service about all fields together.
        message: String,
        /// What is wrong with each field; empty if the service did not say.
        violations: Vec<Violation>,
    },
    /// There is no such tenant, key, limit or reservation.
    #[error("not found: {message}")]
    NotFound {
        /// The message of the service.
        message: String,
        /// A machine-readable reason, such as `NO_SUCH_TENANT`.
        reason: Option<String>,
    },
    /// Another object exists under this id or hash.
    #[error("already exists: {message}")]
    AlreadyExists {
        /// The message of the service.
        message: String,
        /// A machine-readable reason, such as `TENANT_EXISTS`.
        reason: Option<String>,
    },
    /// The current state does not allow the change.
    #[error("not possible now: {message}")]
    FailedPrecondition {
        /// The message of the service.
        message: String,
        /// A machine-readable reason, such as `KEY_NOT_ROTATABLE`.
        reason: Option<String>,
    },
    /// The tenant or key has changed since it was read: read it again, and repeat the update with its new etag.
    #[error("changed meanwhile: {message}")]
    Conflict {
        /// The message of the service, with the current etag.
        message: String,
        /// A machine-readable reason, such as `ETAG_MISMATCH`.
        reason: Option<String>,
    },
    /// The service does not know the caller.
    #[error("not authenticated: {message}")]
    Unauthenticated {
        /// The message of the service.
        message: String,
    },
    /// The caller lacks the required role.
    #[error("not allowed: {message}")]
    PermissionDenied {
        /// The message of the service.
        message: String,
    },
    /// The contract defines this call, but the service does not implement it.
    #[error("not implemented: {message}")]
    Unimplemented {
        /// The message of the service.
        message: String,
    },
    /// Any other error, such as a bug of the service or a response that breaks the contract.
    #[error("unexpected ({code:?}): {message}")]
    Other {
        /// The status code.
        code: Code,
        /// What happened.
        message: String,
    },
}

/// A field of the request and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field in the request: `requests[3].key`.
    pub field: String,
    /// What is wrong with the field.
    pub description: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.description)
    }
}

impl Error {
    /// Returns the error for a request that this client rejects without sending it.
    pub(crate) fn invalid_field(field: &str, description: &str) -> Self {
        let violation = Violation { field: field.to_owned(), description: description.to_owned() };
        Self::Invalid { message: violation.to_string(), violations: vec![violation] }
    }

    /// Returns whether a later retry may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::NoCallerToken { .. }
                | Self::Unreachable { .. }
                | Self::Unavailable { .. }
                | Self::Overloaded { .. }
                | Self::DeadlineExceeded
        )
    }

    /// Returns how long to wait before a retry, if the service sent a time.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } | Self::Overloaded { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Returns the error of one item in a response.
    pub(crate) fn from_item(item: &tonic_types::Status) -> Self {
        Status::with_details(Code::from_i32(item.code), item.message.clone(), item.encode_to_vec().into())
            .into()
    }

    /// Returns the error for a failure of the connection itself.
    pub(crate) fn from_transport(error: &(dyn StdError + 'static)) -> Self {
        Self::Unreachable { message: root_cause(error).to_string() }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        // A status with a source was created in this process; the service did not send it.
        if let Some(source) = status.source() {
            return from_local_source(source);
        }
        let message = status.message().to_owned();
        let details = status.get_error_details();
        let reason = reason(&details);
        let retry_after = details.retry_info().and_then(|info| info.retry_delay);
        match status.code() {
            Code::Unavailable => Self::Unavailable { message, reason, retry_after },
            Code::ResourceExhausted => Self::Overloaded { message, retry_after },
            Code::DeadlineExceeded => Self::DeadlineExceeded,
            Code::InvalidArgument => Self::Invalid { message, violations: violations(&details) },
            Code::NotFound => Self::NotFound { message, reason },
            Code::AlreadyExists => Self::AlreadyExists { message, reason },
            Code::FailedPrecondition => Self::FailedPrecondition { message, reason },
            Code::Aborted => Self::Conflict { message, reason },
            Code::Unauthenticated => Self::Unauthenticated { message },
            Code::PermissionDenied => Self::PermissionDenied { message },
            Code::Unimplemented => Self::Unimplemented { message },
            code => Self::Other { code, message },
        }
    }
}

fn from_local_source(source: &(dyn StdError + 'static)) -> Error {
    let mut link = Some(source);
    while let Some(error) = link {
        if let Some(error) = error.downcast_ref::<Error>() {
            return error.clone();
        }
        if error.is::<TimeoutExpired>() {
            return Error::DeadlineExceeded;
        }
        link = error.source();
    }
    Error::from_transport(source)
}

/// Returns the innermost error: the outer ones only say "transport error".
fn root_cause<'a>(mut error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

fn reason(details: &ErrorDetails) -> Option<String> {
    details.error_info().map(|info| info.reason.clone())
}

fn violations(details: &ErrorDetails) -> Vec<Violation> {
    let violations = details.bad_request().map(|request| &request.field_violations);
    let violation = |violation: &tonic_types::FieldViolation| Violation {
        field: violation.field.clone(),
        description: violation.description.clone(),
    };
    violations.into_iter().flatten().map(violation).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn unavailable() -> Status {
        let mut details = ErrorDetails::with_error_info("DATABASE_BUSY", "tenantauth.v1", HashMap::new());
        details.set_retry_info(Some(Duration::from_millis(1_500)));
        Status::with_error_details(Code::Unavailable, "busy", details)
    }

    #[test]
    fn status_details_are_parsed() {
        let error = Error::from(unavailable());
        let expected = Error::Unavailable {
            message: "busy".to_owned(),
            reason: Some("DATABASE_BUSY".to_owned()),
            retry_after: Some(Duration::from_millis(1_500)),
        };
        assert_eq!(error, expected);
        assert!(error.is_transient());
        assert_eq!(error.retry_after(), Some(Duration::from_millis(1_500)));
    }

    #[test]
    fn item_status_parses_like_a_call_status() {
        let item = tonic_types::Status::decode(unavailable().details()).unwrap();
        assert_eq!(Error::from_item(&item), Error::from(unavailable()));
        let bare = tonic_types::Status { code: 5, message: "none".to_owned(), details: vec![] };
        let expected = Error::NotFound { message: "none".to_owned(), reason: None };
        assert_eq!(Error::from_item(&bare), expected);
    }

    #[test]
    fn violations_name_their_fields() {
        let details = ErrorDetails::with_bad_request_violation("keys[3].name", "is too long");
        let status = Status::with_error_details(Code::InvalidArgument, "no", details);
        let Error::Invalid { violations, .. } = Error::from(status) else { unreachable!() };
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].to_string(), "keys[3].name: is too long");
    }

    #[test]
    fn malformed_details_are_ignored() {
        let status = Status::with_details(Code::NotFound, "none", vec![0xff; 9].into());
        let expected = Error::NotFound { message: "none".to_owned(), reason: None };
        assert_eq!(Error::from(status), expected);
    }

    #[test]
    fn every_status_code_maps_to_an_error_kind() {
        let transient: Vec<_> = (0..=16)
            .map(|code| Status::new(Code::from_i32(code), ""))
            .filter(|status| Error::from(Status::new(status.code(), "")).is_transient())
            .map(|status| status.code())
            .collect();
        let expected = [Code::DeadlineExceeded, Code::ResourceExhausted, Code::Unavailable];
        assert_eq!(transient, expected);
    }

    #[test]
    fn local_errors_are_not_taken_for_service_answers() {
        let broken = std::io::Error::other("connection refused");
        let error = Error::from(Status::from_error(Box::new(broken)));
        assert_eq!(error, Error::Unreachable { message: "connection refused".to_owned() });
        let timed_out = Status::from_error(Box::new(TimeoutExpired(())));
        assert_eq!(Error::from(timed_out), Error::DeadlineExceeded);
    }
}
