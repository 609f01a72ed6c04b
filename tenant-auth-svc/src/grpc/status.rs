//! Converts errors to gRPC statuses. No other module does.
//!
//! | situation | code | details |
//! |---|---|---|
//! | the request violates the contract | INVALID_ARGUMENT | BadRequest |
//! | the request is not a readable gRPC call | INVALID_ARGUMENT | ErrorInfo |
//! | a message exceeds its size limit | RESOURCE_EXHAUSTED | ErrorInfo |
//! | a message is compressed | UNIMPLEMENTED | ErrorInfo |
//! | the request ended before it was complete | CANCELLED | ErrorInfo |
//! | the database gave no usable response | UNAVAILABLE | ErrorInfo, RetryInfo |
//! | the caller's deadline expired during a database call | UNAVAILABLE | ErrorInfo, RetryInfo |
//! | the caller's deadline expired before the work started | DEADLINE_EXCEEDED | ErrorInfo |
//! | the request timed out for another reason | DEADLINE_EXCEEDED | ErrorInfo |
//! | too many calls wait for the database | RESOURCE_EXHAUSTED | ErrorInfo, RetryInfo |
//! | too many lookups of unknown keys or sessions | RESOURCE_EXHAUSTED | ErrorInfo, RetryInfo |
//! | a limit of requests, streams or bytes is reached | RESOURCE_EXHAUSTED | ErrorInfo, RetryInfo |
//! | unknown tenant or key | NOT_FOUND | ErrorInfo |
//! | the id is taken, or a request id was used for other events | ALREADY_EXISTS | ErrorInfo |
//! | the key cannot be rotated or changed, or no database is known that could be replaced | FAILED_PRECONDITION | ErrorInfo |
//! | the tenant or key has changed since it was read | ABORTED | ErrorInfo |
//! | the caller is unknown | UNAUTHENTICATED | ErrorInfo |
//! | the caller lacks the role | PERMISSION_DENIED | ErrorInfo |
//! | an internal error | INTERNAL | ErrorInfo |
//!
//! A deadline that expires during a database call is UNAVAILABLE, because the database was slow: the caller
//! waits for a moment longer than its deadline, and learns the cause. DEADLINE_EXCEEDED with DEADLINE_EXPIRED
//! means that no database call was made. DEADLINE_EXCEEDED with REQUEST_TIMED_OUT means that the server ended
//! the request, most likely because its message did not arrive completely.
//!
//! Messages are for the developer of the caller. They never contain text of the database: the log does.

mod limit;
mod limit_definition;

use std::{collections::HashMap, time::Duration};

use prost::Message as _;
use tonic::{Code, Status, metadata::MetadataValue};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::error::{ApiError, MalformedRequest};
use crate::domain::{
    admin::AdminError,
    recovery::RecoveryError,
    sessions::SessionError,
    store::{FailureKind, StoreError},
    usage::{EventRefusal, UsageError},
    watch::WatchError,
};

/// The `domain` of every ErrorInfo.
pub const ERROR_DOMAIN: &str = "tenantauth.v1";

/// The maximum number of reported invalid fields. The details travel in headers, twice, and clients reject
/// headers beyond 8 or 16 KiB: the caller would see a connection error instead.
const MAX_REPORTED_VIOLATIONS: usize = 20;
/// The retry delay, unless the database sent one.
const DEFAULT_RETRY_DELAY: Duration = Duration::from_secs(1);
/// The retry delay after overload.
const OVERLOAD_RETRY_DELAY: Duration = Duration::from_millis(200);

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Invalid(violations) => {
                let mut details = ErrorDetails::new();
                let reported = &violations[..violations.len().min(MAX_REPORTED_VIOLATIONS)];
                for violation in reported {
                    details.add_bad_request_violation(&violation.field, &violation.description);
                }
                let mut all: Vec<_> =
                    reported.iter().map(|v| format!("{}: {}", v.field, v.description)).collect();
                if reported.len() < violations.len() {
                    all.push(format!("and {} more", violations.len() - reported.len()));
                }
                Self::with_error_details(Code::InvalidArgument, all.join("; "), details)
            }
            ApiError::Malformed(error) => malformed_status(&error),
            ApiError::Undecidable(error) | ApiError::Admin(AdminError::Store(error)) => store_status(&error),
            ApiError::Session(SessionError::Store(error))
            | ApiError::Recovery(RecoveryError::Store(error)) => store_status(&error),
            ApiError::Recovery(RecoveryError::NotKnown) => {
                status_with_reason(Code::FailedPrecondition, "DATABASE_NOT_KNOWN", error.to_string())
            }
            ApiError::Usage(error) => usage_status(&error),
            ApiError::LimitAdmin(error) => limit_definition::limit_admin_status(&error),
            ApiError::Limit(error) => limit::limit_status(&error),
            ApiError::Reservation(error) => limit::reservation_status(&error),
            ApiError::Watch(error) => watch_status(error),
            ApiError::Admin(error) => admin_status(&error),
            // Without a retry delay: a slot is free only when another session ends.
            ApiError::Session(SessionError::TooMany { .. }) => {
                status_with_reason(Code::ResourceExhausted, "TOO_MANY_SESSIONS", error.to_string())
            }
            ApiError::Session(SessionError::NoSuchTenant(_)) => {
                status_with_reason(Code::NotFound, "NO_SUCH_TENANT", error.to_string())
            }
            ApiError::Overloaded(_) => {
                let mut details = ErrorDetails::with_error_info("OVERLOADED", ERROR_DOMAIN, HashMap::new());
                details.set_retry_info(Some(OVERLOAD_RETRY_DELAY));
                Self::with_error_details(Code::ResourceExhausted, error.to_string(), details)
            }
            ApiError::DeadlineExpired => {
                status_with_reason(Code::DeadlineExceeded, "DEADLINE_EXPIRED", error.to_string())
            }
            ApiError::UnknownCaller => {
                status_with_reason(Code::Unauthenticated, "UNKNOWN_CALLER", error.to_string())
            }
            ApiError::RoleMissing { .. } => {
                status_with_reason(Code::PermissionDenied, "ROLE_MISSING", error.to_string())
            }
            ApiError::UnknownRpc => status_with_reason(Code::Unimplemented, "UNKNOWN_RPC", error.to_string()),
            ApiError::RequestTimedOut => {
                status_with_reason(Code::DeadlineExceeded, "REQUEST_TIMED_OUT", error.to_string())
            }
            ApiError::Panicked => status_with_reason(
                Code::Internal,
                "INTERNAL",
                "internal error; see the server log for the request id of this response (x-request-id)"
                    .to_owned(),
            ),
        }
    }
}

fn malformed_status(error: &MalformedRequest) -> Status {
    let (code, reason) = match error {
        // Without a retry delay: the message does not get shorter.
        MalformedRequest::TooLarge { .. } => (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
        MalformedRequest::Encoding(_) => (Code::Unimplemented, "COMPRESSION_NOT_SUPPORTED"),
        MalformedRequest::Interrupted => (Code::Cancelled, "REQUEST_INCOMPLETE"),
        MalformedRequest::Method(_)
        | MalformedRequest::ContentType(_)
        | MalformedRequest::CompressedWithoutEncoding
        | MalformedRequest::InvalidFlag(_)
        | MalformedRequest::Truncated { .. }
        | MalformedRequest::TruncatedHeader { .. }
        | MalformedRequest::MissingMessage
        | MalformedRequest::ExtraMessage
        | MalformedRequest::UndecodableMessage(_) => (Code::InvalidArgument, "MALFORMED_REQUEST"),
    };
    let mut status = status_with_reason(code, reason, error.to_string());
    if code == Code::Unimplemented {
        // The gRPC specification of compression requires this header.
        status.metadata_mut().insert("grpc-accept-encoding", MetadataValue::from_static("identity"));
    }
    status
}

fn watch_status(error: WatchError) -> Status {
    let (code, reason) = match error {
        WatchError::TooSlow(_) => (Code::ResourceExhausted, "WATCH_TOO_SLOW"),
        WatchError::ShuttingDown => (Code::Unavailable, "REPLICA_DRAINING"),
        WatchError::FeedDisabled => {
            return status_with_reason(Code::FailedPrecondition, "CHANGE_FEED_DISABLED", error.to_string());
        }
    };
    let mut details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, HashMap::new());
    details.set_retry_info(Some(OVERLOAD_RETRY_DELAY));
    Status::with_error_details(code, error.to_string(), details)
}

fn admin_status(error: &AdminError) -> Status {
    let (code, reason) = match error {
        AdminError::NoSuchTenant(_) => (Code::NotFound, "NO_SUCH_TENANT"),
        AdminError::NoSuchKey(_) => (Code::NotFound, "NO_SUCH_KEY"),
        AdminError::TenantExists { fields, .. } => {
            let metadata = HashMap::from([("differing_fields".to_owned(), fields.join(","))]);
            let details = ErrorDetails::with_error_info("TENANT_EXISTS", ERROR_DOMAIN, metadata);
            return Status::with_error_details(Code::AlreadyExists, error.to_string(), details);
        }
        AdminError::Changed { etag, .. } => {
            let metadata = HashMap::from([("etag".to_owned(), etag.to_string())]);
            let details = ErrorDetails::with_error_info("ETAG_MISMATCH", ERROR_DOMAIN, metadata);
            return Status::with_error_details(Code::Aborted, error.to_string(), details);
        }
        AdminError::TenantNotSuspended(_) => (Code::FailedPrecondition, "TENANT_NOT_SUSPENDED"),
        AdminError::TenantBeingDeleted(_) => (Code::FailedPrecondition, "TENANT_BEING_DELETED"),
        AdminError::KeyRevoked(_) => (Code::FailedPrecondition, "KEY_REVOKED"),
        AdminError::KeyHeldByAnotherTenant => (Code::AlreadyExists, "KEY_HELD_BY_ANOTHER_TENANT"),
        AdminError::NotRotatable { .. } => (Code::FailedPrecondition, "KEY_NOT_ROTATABLE"),
        AdminError::ExpiryNotInFuture => {
            return violation_status("expires_at", "must be in the future");
        }
        AdminError::OverlapTooLong => return violation_status("overlap", "must be at most 90 days"),
        AdminError::EntropyUnavailable(_) => (Code::Internal, "ENTROPY_UNAVAILABLE"),
        AdminError::Store(error) => return store_status(error),
    };
    status_with_reason(code, reason, error.to_string())
}

fn usage_status(error: &UsageError) -> Status {
    let (code, reason, retry_after) = match error {
        UsageError::PayloadMismatch(_) => (Code::AlreadyExists, "REQUEST_ID_REUSED".to_owned(), None),
        UsageError::QueueFull => {
            (Code::ResourceExhausted, "USAGE_QUEUE_FULL".to_owned(), Some(OVERLOAD_RETRY_DELAY))
        }
        UsageError::Stopping => (Code::Unavailable, "SHUTTING_DOWN".to_owned(), Some(OVERLOAD_RETRY_DELAY)),
        UsageError::NoSuchTenant(_) => (Code::NotFound, "NO_SUCH_TENANT".to_owned(), None),
        UsageError::Refused(refusal) => (refusal_code(*refusal), refusal.as_str().to_ascii_uppercase(), None),
        UsageError::Store(error) => return store_status(error),
    };
    let mut details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, HashMap::new());
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
    }
    Status::with_error_details(code, error.to_string(), details)
}

fn refusal_code(refusal: EventRefusal) -> Code {
    match refusal {
        EventRefusal::UnknownTenant => Code::NotFound,
        EventRefusal::InvalidTenantId
        | EventRefusal::InvalidMetric
        | EventRefusal::NegativeQuantity
        | EventRefusal::QuantityTooLarge
        | EventRefusal::InvalidTime
        | EventRefusal::TooOld
        | EventRefusal::TooFarAhead => Code::InvalidArgument,
    }
}

fn store_status(error: &StoreError) -> Status {
    let (code, message, retry_after) = match error.kind {
        FailureKind::TooManyUnknownLookups => (
            Code::ResourceExhausted,
            "too many lookups of unknown keys or sessions; lookups of known ones are still answered",
            DEFAULT_RETRY_DELAY,
        ),
        FailureKind::Overloaded => {
            (Code::ResourceExhausted, "too many requests are waiting for the database", OVERLOAD_RETRY_DELAY)
        }
        FailureKind::Unreachable
        | FailureKind::TimedOut
        | FailureKind::Throttled
        | FailureKind::Busy
        | FailureKind::Denied
        | FailureKind::Blocked
        | FailureKind::ReadOnly
        | FailureKind::DiskFull
        | FailureKind::InvalidResponse
        | FailureKind::SchemaMissing
        | FailureKind::CircuitOpen
        | FailureKind::Conflict
        | FailureKind::Internal
        | FailureKind::Untrusted
        | FailureKind::Lagging
        | FailureKind::Starved => (
            Code::Unavailable,
            "the database gave no usable response, so no decision was made",
            DEFAULT_RETRY_DELAY,
        ),
        FailureKind::PepperMissing => (
            Code::Unavailable,
            "the key was not found, but this replica lacks a pepper of stored keys, so no decision was made",
            DEFAULT_RETRY_DELAY,
        ),
    };
    let reason = match error.kind {
        FailureKind::TooManyUnknownLookups => "TOO_MANY_UNKNOWN_LOOKUPS".to_owned(),
        // For a caller, both are a timeout.
        FailureKind::Starved => database_reason(FailureKind::TimedOut),
        kind => database_reason(kind),
    };
    let mut details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, HashMap::new());
    details.set_retry_info(Some(error.retry_after.unwrap_or(retry_after)));
    Status::with_error_details(code, message, details)
}

fn database_reason(kind: FailureKind) -> String {
    format!("DATABASE_{}", kind.as_str().to_ascii_uppercase())
}

fn violation_status(field: &str, description: &str) -> Status {
    let details = ErrorDetails::with_bad_request_violation(field, description);
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {description}"), details)
}

fn status_with_reason(code: Code, reason: &str, message: String) -> Status {
    let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, HashMap::new());
    Status::with_error_details(code, message, details)
}

/// Returns the status as a message, for one item of a batch or stream.
pub(super) fn status_message(error: ApiError) -> tonic_types::Status {
    let status = Status::from(error);
    // The details hold the whole message. Without details, or if they cannot be decoded, code and text
    // remain.
    tonic_types::Status::decode(status.details()).ok().filter(|message| message.code != 0).unwrap_or_else(
        || tonic_types::Status {
            code: status.code().into(),
            message: status.message().to_owned(),
            details: Vec::new(),
        },
    )
}

#[cfg(test)]
mod tests;
