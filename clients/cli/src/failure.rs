//! Failures of a command, and the error reports for users.

mod report;

use std::time::Duration;

use tenant_auth_client::{Error, Violation};

pub(crate) use self::report::{ErrorReport, FieldProblem};
use self::report::{code, reason};
use crate::{exit::Exit, probe::PortProtocol, time::format_coarse};

/// Fields of the request, and the names under which the user knows them.
pub(crate) type FieldNames = &'static [(&'static str, &'static str)];

/// The endpoint and the options of a command, for its error report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestContext<'a> {
    pub(crate) endpoint: &'a str,
    /// The option or the variable that set the endpoint.
    pub(crate) endpoint_option: &'static str,
    /// The timeout of one request.
    pub(crate) timeout: Duration,
    /// Whether the command sent credentials.
    pub(crate) has_credentials: bool,
}

/// Returns whether an endpoint uses TLS.
pub(crate) fn is_secure(endpoint: &str) -> bool {
    endpoint.starts_with("https://")
}

/// The reason why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line or the input is invalid.
    Usage {
        /// What is wrong.
        sentence: String,
        /// The invalid fields.
        violations: Vec<FieldProblem>,
        /// What to do.
        hint: Option<String>,
    },
    /// The request failed.
    Service {
        /// The error of the client.
        error: Error,
        /// The names of its fields on the command line.
        names: FieldNames,
    },
    /// Any other error.
    Unexpected(String),
}

impl Failure {
    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self::Usage { sentence: sentence.into(), violations: Vec::new(), hint: None }
    }

    /// Returns a function that turns client errors into failures, with the field names that the user knows.
    pub(crate) fn from_service(names: FieldNames) -> impl Fn(Error) -> Self {
        move |error| Self::Service { error, names }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage { .. } => Exit::Usage,
            Self::Service { error, .. } => Exit::from(error),
            Self::Unexpected(_) => Exit::Unexpected,
        }
    }

    /// Returns whether the service could not be reached. The protocol of the port may then explain why.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Service { error: Error::Unreachable { .. } | Error::DeadlineExceeded, .. })
    }

    /// Returns the error report. `protocol` is the protocol of the port, if known.
    pub(crate) fn report(
        &self,
        context: &RequestContext<'_>,
        protocol: Option<PortProtocol>,
        request_id: &str,
    ) -> ErrorReport {
        let Self::Service { error, names } = self else { return self.local_report() };
        let mismatch = protocol.and_then(|protocol| protocol_mismatch(protocol, context.endpoint));
        let (message, hint) = match mismatch {
            Some((message, hint)) => (message, Some(hint)),
            None => (error_message(error, context), error_hint(error, context)),
        };
        let was_sent = !matches!(error, Error::Setup { .. });
        ErrorReport {
            code: code(error),
            message,
            reason: reason(error),
            violations: violations(error, names),
            hint,
            request_id: was_sent.then(|| request_id.to_owned()),
            exit_code: self.exit().code(),
        }
    }

    /// Returns the error report of a failure without a request to the service.
    pub(crate) fn local_report(&self) -> ErrorReport {
        let (message, violations, hint) = match self {
            Self::Usage { sentence, violations, hint } => {
                (sentence.clone(), violations.clone(), hint.clone())
            }
            Self::Service { error, .. } => (error.to_string(), Vec::new(), None),
            Self::Unexpected(sentence) => (sentence.clone(), Vec::new(), None),
        };
        let code = if self.exit() == Exit::Usage { "USAGE" } else { "UNEXPECTED" };
        ErrorReport {
            code: code.to_owned(),
            message,
            reason: None,
            violations,
            hint,
            request_id: None,
            exit_code: self.exit().code(),
        }
    }
}

/// Returns what is wrong with an endpoint whose port uses another protocol, and what to do.
fn protocol_mismatch(protocol: PortProtocol, endpoint: &str) -> Option<(String, String)> {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    match (protocol, is_secure(endpoint)) {
        (PortProtocol::Tls, false) => Some((
            format!("cannot reach {endpoint}: the port uses TLS, but the endpoint is http://"),
            format!("use https://{rest}, and --ca if the system does not trust the certificate"),
        )),
        (PortProtocol::Http2, true) => Some((
            format!("cannot reach {endpoint}: the port does not use TLS, but the endpoint is https://"),
            format!("use http://{rest} if the network is trusted"),
        )),
        (PortProtocol::Http1, _) => Some((
            format!("cannot reach {endpoint}: the port uses HTTP/1, but gRPC requires HTTP/2"),
            "this may be the port for health and metrics, or a proxy: the gRPC port is TENANT_AUTH_LISTEN, by default 50051"
                .to_owned(),
        )),
        (PortProtocol::Tls, true) | (PortProtocol::Http2, false) => None,
    }
}

fn error_message(error: &Error, context: &RequestContext<'_>) -> String {
    let (endpoint, timeout) = (context.endpoint, context.timeout);
    match error {
        Error::Setup { message } => format!("{}: {message}", context.endpoint_option),
        Error::Unreachable { message } => format!("cannot reach {endpoint}: {message}"),
        Error::Unavailable { message, reason: Some(reason), .. } => format!("{message} ({reason})"),
        Error::DeadlineExceeded => format!("{endpoint} did not respond within {}", format_coarse(timeout)),
        Error::Invalid { violations, .. } if !violations.is_empty() => {
            "the service rejected the request as invalid".to_owned()
        }
        Error::Unavailable { message, .. }
        | Error::Overloaded { message, .. }
        | Error::Invalid { message, .. }
        | Error::NotFound { message, .. }
        | Error::AlreadyExists { message, .. }
        | Error::FailedPrecondition { message, .. }
        | Error::Conflict { message, .. }
            if !message.is_empty() =>
        {
            message.clone()
        }
        error => error.to_string(),
    }
}

fn violations(error: &Error, names: FieldNames) -> Vec<FieldProblem> {
    let Error::Invalid { violations, .. } = error else {
        return Vec::new();
    };
    let renamed = |violation: &Violation| FieldProblem {
        field: option_name(&violation.field, names),
        description: violation.description.clone(),
    };
    violations.iter().map(renamed).collect()
}

/// Returns the command-line name of a field: `scopes[1]` is the second `--scope`.
fn option_name(field: &str, names: FieldNames) -> String {
    let (base, rest) = field.split_once('[').unwrap_or((field, ""));
    let Some((_, option)) = names.iter().find(|(field, _)| *field == base) else {
        return field.to_owned();
    };
    match rest.strip_suffix(']').and_then(|index| index.parse::<u32>().ok()) {
        Some(index) => format!("{option} (no. {})", u64::from(index) + 1),
        None => (*option).to_owned(),
    }
}

fn error_hint(error: &Error, context: &RequestContext<'_>) -> Option<String> {
    let endpoint = context.endpoint;
    match error {
        Error::Unreachable { .. } if is_secure(endpoint) => Some(format!(
            "is tenant-auth running at {endpoint}, with a certificate for this name that --ca or the system trusts?"
        )),
        Error::Unreachable { .. } => Some(format!(
            "is tenant-auth running at {endpoint} without TLS? to start one: `cargo run --release -- dev`"
        )),
        Error::Unavailable { retry_after, .. } | Error::Overloaded { retry_after, .. } => {
            let when =
                retry_after.map_or_else(|| "later".to_owned(), |time| format!("in {}", format_coarse(time)));
            Some(format!("try again {when}; see the log of the service for the reason"))
        }
        Error::DeadlineExceeded => {
            Some("the change may have been made; --timeout sets how long to wait".to_owned())
        }
        Error::Unauthenticated { .. } if context.has_credentials => Some(
            "the service's callers file must list this token's hash, or a name in this certificate"
                .to_owned(),
        ),
        Error::Unauthenticated { .. } => Some(
            "the service requires a caller identity: use --token-file, or --cert and --cert-key".to_owned(),
        ),
        Error::PermissionDenied { .. } => {
            Some("the service's callers file sets the roles of a caller".to_owned())
        }
        Error::Unimplemented { .. } => Some(format!(
            "tenantctl and the service at {endpoint} may be of different versions; see `tenantctl info`"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELD_NAMES: FieldNames = &[("tenant_id", "--tenant"), ("scopes", "--scope")];

    fn report_of(error: Error) -> ErrorReport {
        report_with(false, error)
    }

    fn report_with(with_credentials: bool, error: Error) -> ErrorReport {
        let context = RequestContext {
            endpoint: "http://host:1",
            endpoint_option: "--endpoint",
            timeout: Duration::from_secs(5),
            has_credentials: with_credentials,
        };
        Failure::from_service(FIELD_NAMES)(error).report(&context, None, "run-1")
    }

    #[test]
    fn violations_use_option_names() {
        let violation =
            |field: &str| Violation { field: field.to_owned(), description: "must not be empty".to_owned() };
        let violations = ["tenant_id", "scopes[1]", "scopes", "odd[x]", "page_token"];
        let report = report_of(Error::Invalid {
            message: String::new(),
            violations: violations.map(violation).into(),
        });
        let names: Vec<_> = report.violations.iter().map(|problem| &*problem.field).collect();
        assert_eq!(names, ["--tenant", "--scope (no. 2)", "--scope", "odd[x]", "page_token"]);
        assert_eq!(
            (&*report.code, report.request_id.as_deref(), report.exit_code),
            ("INVALID_ARGUMENT", Some("run-1"), 2)
        );
    }

    #[test]
    fn unreachable_service_has_a_hint() {
        let report = report_of(Error::Unreachable { message: "refused".to_owned() });
        assert_eq!(report.message, "cannot reach http://host:1: refused");
        assert!(report.hint.unwrap().contains("cargo run --release -- dev"));
    }

    #[test]
    fn service_message_is_shown_unchanged() {
        let report = report_of(Error::NotFound { message: "there is no key k".to_owned(), reason: None });
        assert_eq!(report.message, "there is no key k");
        assert_eq!(report.hint, None);
    }

    #[test]
    fn unauthenticated_error_has_a_hint() {
        let unknown = || Error::Unauthenticated { message: "who calls?".to_owned() };
        assert!(report_of(unknown()).hint.unwrap().contains("use --token-file"));
        let hint = report_with(true, unknown()).hint.unwrap();
        assert!(hint.contains("must list this token's hash"), "{hint}");
    }
}
