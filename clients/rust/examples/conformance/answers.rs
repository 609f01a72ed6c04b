//! Verdicts and errors in the format of the conformance driver.

use serde_json::{Value, json};
use tenant_auth_client::{Code, Error, NotAdmitted, Principal, Source, Validation};

pub(crate) fn validation(validation: &Validation) -> Value {
    json!({
        "verdict": validation.verdict.to_string(),
        "tenant_id": validation.subject.tenant_id(),
        "plan": validation.subject.plan(),
        "key_id": validation.subject.key_id(),
        "missing_scopes": validation.missing_scopes,
        "source": source(validation.provenance.source),
    })
}

/// Returns the outcome of `require`.
pub(crate) fn admission(outcome: Result<Principal, NotAdmitted>) -> Result<Value, Error> {
    match outcome {
        Ok(principal) => Ok(json!({
            "principal": {"tenant_id": principal.tenant_id(), "key_id": principal.key_id()},
        })),
        Err(NotAdmitted::Denied(denied)) => Ok(json!({
            "denied": denied.verdict().to_string(),
            "missing_scopes": denied.missing_scopes(),
        })),
        Err(NotAdmitted::Undecided(error)) => Err(error),
    }
}

pub(crate) fn error(error: &Error) -> Value {
    let reason = match error {
        Error::Unavailable { reason, .. }
        | Error::NotFound { reason, .. }
        | Error::AlreadyExists { reason, .. }
        | Error::FailedPrecondition { reason, .. }
        | Error::Conflict { reason, .. } => reason.clone(),
        _ => None,
    };
    let fields: Vec<_> = match error {
        Error::Invalid { violations, .. } => violations.iter().map(|v| v.field.clone()).collect(),
        _ => Vec::new(),
    };
    json!({"error": code_name(code(error)), "reason": reason, "fields": fields})
}

fn source(source: Source) -> &'static str {
    match source {
        Source::Database => "DATABASE",
        Source::Fresh => "FRESH",
        Source::Refreshing => "REFRESHING",
        Source::Stale => "STALE",
        Source::Negative => "NEGATIVE",
        Source::Near => "NEAR",
        _ => "UNSPECIFIED",
    }
}

pub(crate) fn code(error: &Error) -> Code {
    match error {
        Error::Setup { .. } | Error::Invalid { .. } => Code::InvalidArgument,
        Error::Closed => Code::Cancelled,
        Error::NoCallerToken { .. } | Error::Unauthenticated { .. } => Code::Unauthenticated,
        Error::Unreachable { .. } | Error::Unavailable { .. } => Code::Unavailable,
        Error::Overloaded { .. } => Code::ResourceExhausted,
        Error::DeadlineExceeded => Code::DeadlineExceeded,
        Error::NotFound { .. } => Code::NotFound,
        Error::AlreadyExists { .. } => Code::AlreadyExists,
        Error::FailedPrecondition { .. } => Code::FailedPrecondition,
        Error::Conflict { .. } => Code::Aborted,
        Error::PermissionDenied { .. } => Code::PermissionDenied,
        Error::Unimplemented { .. } => Code::Unimplemented,
        Error::Other { code, .. } => *code,
        _ => Code::Unknown,
    }
}

pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Returns a text field; empty if it is missing.
pub(crate) fn text<'a>(command: &'a Value, name: &str) -> &'a str {
    command[name].as_str().unwrap_or_default()
}

/// Returns a field that is a list of texts; empty if it is missing.
pub(crate) fn texts<'a>(command: &'a Value, name: &str) -> Vec<&'a str> {
    command[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}
