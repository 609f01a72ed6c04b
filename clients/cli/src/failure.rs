//! What went wrong, told so that somebody can act on it.

mod report;

use std::time::Duration;

use tenant_auth_client::{Error, Violation};

pub(crate) use self::report::{ErrorReport, FieldProblem};
use self::report::{code, reason};
use crate::{exit::Exit, probe::PortProtocol, time::format_coarse};

/// A field of the request, and what the user knows it as.
pub(crate) type FieldNames = &'static [(&'static str, &'static str)];

/// Whom a command has asked, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestContext<'a> {
    pub(crate) endpoint: &'a str,
    /// The option or the variable that named it.
    pub(crate) endpoint_option: &'static str,
    /// For one answer.
    pub(crate) timeout: Duration,
    /// Whether the service could tell who calls.
    pub(crate) has_credentials: bool,
}

/// Whether an endpoint is asked over TLS.
pub(crate) fn is_secure(endpoint: &str) -> bool {
    endpoint.starts_with("https://")
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line or the input is wrong.
    Usage {
        /// What is wrong.
        sentence: String,
        /// Where, and what there.
        violations: Vec<FieldProblem>,
        /// What to do.
        hint: Option<String>,
    },
    /// The service did not do it.
    Service {
        /// What it said.
        error: Error,
        /// What its fields are called here.
        names: FieldNames,
    },
    /// Anything else.
    Unexpected(String),
}

impl Failure {
    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self::Usage { sentence: sentence.into(), violations: Vec::new(), hint: None }
    }

    /// Turns the service's errors into failures that name fields as the user knows them.
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

    /// Whether the service was asked and could not be reached: what is spoken there may say why.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Service { error: Error::Unreachable { .. } | Error::DeadlineExceeded, .. })
    }

    /// The failure in words, for somebody who asked like this, where the port speaks that, as far as is known.
    pub(crate) fn report(
        &self,
        by: &RequestContext<'_>,
        spoken: Option<PortProtocol>,
        request_id: &str,
    ) -> ErrorReport {
        let Self::Service { error, names } = self else { return self.local_report() };
        let mismatch = spoken.and_then(|spoken| protocol_mismatch(spoken, by.endpoint));
        let (message, hint) = match mismatch {
            Some((message, hint)) => (message, Some(hint)),
            None => (error_message(error, by), error_hint(error, by)),
        };
        let asked = !matches!(error, Error::Setup { .. });
        ErrorReport {
            code: code(error),
            message,
            reason: reason(error),
            violations: violations(error, names),
            hint,
            request_id: asked.then(|| request_id.to_owned()),
            exit_code: self.exit().code(),
        }
    }

    /// One in which the service has no part.
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

/// What is wrong with an endpoint whose port speaks something else, and what to do.
fn protocol_mismatch(spoken: PortProtocol, endpoint: &str) -> Option<(String, String)> {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    match (spoken, is_secure(endpoint)) {
        (PortProtocol::Tls, false) => Some((
            format!("cannot reach {endpoint}: the port is encrypted (TLS), and http:// is not"),
            format!("use https://{rest}, with --ca if this machine does not trust its certificate"),
        )),
        (PortProtocol::Http2, true) => Some((
            format!("cannot reach {endpoint}: the port is not encrypted, and https:// is"),
            format!("use http://{rest}, if the network in between is trusted"),
        )),
        (PortProtocol::Http1, _) => Some((
            format!("cannot reach {endpoint}: the port speaks HTTP/1, and gRPC is HTTP/2"),
            "it may be the port for health and metrics, or a proxy: gRPC is at TENANT_AUTH_LISTEN, port 50051 unless set"
                .to_owned(),
        )),
        (PortProtocol::Tls, true) | (PortProtocol::Http2, false) => None,
    }
}

fn error_message(error: &Error, by: &RequestContext<'_>) -> String {
    let (endpoint, timeout) = (by.endpoint, by.timeout);
    match error {
        Error::Setup { message } => format!("{}: {message}", by.endpoint_option),
        Error::Unreachable { message } => format!("cannot reach {endpoint}: {message}"),
        Error::Unavailable { message, reason: Some(reason), .. } => format!("{message} ({reason})"),
        Error::DeadlineExceeded => format!("{endpoint} gave no answer within {}", format_coarse(timeout)),
        Error::Invalid { violations, .. } if !violations.is_empty() => {
            "the service found the request invalid".to_owned()
        }
        Error::Unavailable { message, .. }
        | Error::Overloaded { message, .. }
        | Error::Invalid { message, .. }
        | Error::NotFound { message, .. }
        | Error::AlreadyExists { message, .. }
        | Error::FailedPrecondition { message, .. }
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
    let known = |violation: &Violation| FieldProblem {
        field: option_name(&violation.field, names),
        description: violation.description.clone(),
    };
    violations.iter().map(known).collect()
}

/// `scopes[1]` is the second `--scope`.
fn option_name(field: &str, names: FieldNames) -> String {
    let (base, rest) = field.split_once('[').unwrap_or((field, ""));
    let Some((_, known)) = names.iter().find(|(field, _)| *field == base) else {
        return field.to_owned();
    };
    match rest.strip_suffix(']').and_then(|index| index.parse::<u32>().ok()) {
        Some(index) => format!("{known} (no. {})", u64::from(index) + 1),
        None => (*known).to_owned(),
    }
}

fn error_hint(error: &Error, by: &RequestContext<'_>) -> Option<String> {
    let endpoint = by.endpoint;
    match error {
        Error::Unreachable { .. } if is_secure(endpoint) => Some(format!(
            "is tenant-auth running at {endpoint}, with a certificate for this name that --ca, or else this machine, trusts?"
        )),
        Error::Unreachable { .. } => Some(format!(
            "is tenant-auth running at {endpoint}, without TLS? start one with `cargo run --release -- dev`"
        )),
        Error::Unavailable { retry_after, .. } | Error::Overloaded { retry_after, .. } => {
            let when =
                retry_after.map_or_else(|| "later".to_owned(), |time| format!("in {}", format_coarse(time)));
            Some(format!("try again {when}; the service's log says why"))
        }
        Error::DeadlineExceeded => {
            Some("a change may have been made all the same; --timeout sets how long to wait".to_owned())
        }
        Error::Unauthenticated { .. } if by.has_credentials => Some(
            "the service's callers file must list this token's hash, or a name in this certificate"
                .to_owned(),
        ),
        Error::Unauthenticated { .. } => Some(
            "the service wants to know who calls: it needs --token-file, or --cert and --cert-key".to_owned(),
        ),
        Error::PermissionDenied { .. } => {
            Some("the service's callers file says which roles a caller has".to_owned())
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
        let by = RequestContext {
            endpoint: "http://host:1",
            endpoint_option: "--endpoint",
            timeout: Duration::from_secs(5),
            has_credentials: with_credentials,
        };
        Failure::from_service(FIELD_NAMES)(error).report(&by, None, "run-1")
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
        let names: Vec<_> = report.violations.iter().map(|wrong| &*wrong.field).collect();
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
        assert!(report_of(unknown()).hint.unwrap().contains("it needs --token-file"));
        let hint = report_with(true, unknown()).hint.unwrap();
        assert!(hint.contains("must list this token's hash"), "{hint}");
    }
}
