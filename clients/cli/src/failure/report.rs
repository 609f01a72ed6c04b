//! A failure, for people and for programs.

use serde::Serialize;
use tenant_auth_client::{Error, Violation};

use super::Failure;

/// A failure in words. Its fields are those of the JSON document `{"error": …}`, which scripts build on.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ErrorReport {
    /// What kind it is: the name of a gRPC status, `UNREACHABLE`, `USAGE` or `UNEXPECTED`.
    pub(crate) code: String,
    /// One sentence, without a full stop.
    pub(crate) message: String,
    /// Machine-readable, such as `NO_SUCH_TENANT`, where the service gives one.
    pub(crate) reason: Option<String>,
    /// What is wrong where.
    pub(crate) violations: Vec<FieldProblem>,
    /// What to do.
    pub(crate) hint: Option<String>,
    /// Names this run in the service's log; absent where nothing was asked.
    pub(crate) request_id: Option<String>,
    /// What the program ends with.
    pub(crate) exit_code: u8,
}

/// A field, as the user knows it, and what is wrong with it.
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
    /// What clap says about a command line.
    pub(crate) fn from_clap(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let mut parts = text.trim_end().splitn(2, "\n\n");
        let message = parts.next().unwrap_or_default();
        let message = message.strip_prefix("error: ").unwrap_or(message);
        let message = message.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        Failure::usage(message).local_report()
    }
}

/// The name of what kind an error is.
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
        Error::Unauthenticated { .. } => "UNAUTHENTICATED",
        Error::PermissionDenied { .. } => "PERMISSION_DENIED",
        Error::Unimplemented { .. } => "UNIMPLEMENTED",
        Error::Other { code, .. } => return upper_snake(&format!("{code:?}")),
        _ => "UNEXPECTED",
    };
    name.to_owned()
}

/// `DataLoss` is `DATA_LOSS`.
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

/// The service's own word for it.
pub(super) fn reason(error: &Error) -> Option<String> {
    match error {
        Error::Unavailable { reason, .. }
        | Error::NotFound { reason, .. }
        | Error::AlreadyExists { reason, .. }
        | Error::FailedPrecondition { reason, .. } => reason.clone(),
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
