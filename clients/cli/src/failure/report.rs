//! Error reports for users and for scripts.

use serde::Serialize;
use tenant_auth_client::{Error, Violation};

use super::Failure;

/// An error report. Its fields are those of the JSON document `{"error": …}`, on which scripts depend.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ErrorReport {
    /// The kind of error: the name of a gRPC status, `UNREACHABLE`, `USAGE` or `UNEXPECTED`.
    pub(crate) code: String,
    /// One sentence without a full stop.
    pub(crate) message: String,
    /// A machine-readable reason, such as `NO_SUCH_TENANT`, if the service sent one.
    pub(crate) reason: Option<String>,
    /// The invalid fields.
    pub(crate) violations: Vec<FieldProblem>,
    /// What to do.
    pub(crate) hint: Option<String>,
    /// The request id of this run in the log of the service; absent if no request was sent.
    pub(crate) request_id: Option<String>,
    /// The exit code of the program.
    pub(crate) exit_code: u8,
}

/// A field, by the name that the user knows, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct FieldProblem {
    pub(crate) field: String,
    pub(crate) description: String,
}

impl From<Violation> for FieldProblem {
    fn from(Violation { field, description, .. }: Violation) -> Self {
        Self { field, description }
    }
}

impl ErrorReport {
    /// Creates a report of clap's error about a command line.
    pub(crate) fn from_clap(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let mut parts = text.trim_end().splitn(2, "\n\n");
        let message = parts.next().unwrap_or_default();
        let message = message.strip_prefix("error: ").unwrap_or(message);
        let message = message.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        Failure::usage(message).local_report()
    }
}

/// Returns the code of an error.
pub(super) fn code(error: &Error) -> String {
    let name = match error {
        Error::Setup { .. } => "USAGE",
        Error::Unreachable { .. } => "UNREACHABLE",
        Error::Unavailable { .. } => "UNAVAILABLE",
        Error::Overloaded { .. } => "RESOURCE_EXHAUSTED",
        Error::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Error::Invalid { .. } => "INVALID_ARGUMENT",
        Error::NotFound { .. } => "NOT_FOUND",
        Error::AlreadyExists { .. } => "ALREADY_EXISTS",
        Error::FailedPrecondition { .. } => "FAILED_PRECONDITION",
        Error::Conflict { .. } => "ABORTED",
        Error::Unauthenticated { .. } => "UNAUTHENTICATED",
        Error::PermissionDenied { .. } => "PERMISSION_DENIED",
        Error::Unimplemented { .. } => "UNIMPLEMENTED",
        Error::Other { code, .. } => return upper_snake(&format!("{code:?}")),
        _ => "UNEXPECTED",
    };
    name.to_owned()
}

/// Converts `DataLoss` to `DATA_LOSS`.
fn upper_snake(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(c.to_ascii_uppercase());
    }
    text
}

/// Returns the reason that the service sent.
pub(super) fn reason(error: &Error) -> Option<String> {
    match error {
        Error::Unavailable { reason, .. }
        | Error::NotFound { reason, .. }
        | Error::AlreadyExists { reason, .. }
        | Error::FailedPrecondition { reason, .. }
        | Error::Conflict { reason, .. } => reason.clone(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_codes_match_grpc() {
        assert_eq!(upper_snake("Internal"), "INTERNAL");
        assert_eq!(upper_snake("DataLoss"), "DATA_LOSS");
        assert_eq!(code(&Error::DeadlineExceeded), "DEADLINE_EXCEEDED");
    }
}
