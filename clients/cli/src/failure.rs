//! What went wrong, told so that somebody can act on it.

mod told;

use std::time::Duration;

use tenant_auth_client::{Error, Violation};

pub(crate) use self::told::{Told, Wrong};
use self::told::{code, reason};
use crate::{exit::Exit, probe::Spoken, time::coarse};

/// A field of the request, and what the user knows it as.
pub(crate) type Names = &'static [(&'static str, &'static str)];

/// Whom a command has asked, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) endpoint: &'a str,
    /// The option or the variable that named it.
    pub(crate) endpoint_given_as: &'static str,
    /// For one answer.
    pub(crate) timeout: Duration,
    /// Whether the service could tell who calls.
    pub(crate) with_credentials: bool,
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
        violations: Vec<Wrong>,
        /// What to do.
        hint: Option<String>,
    },
    /// The service did not do it.
    Service {
        /// What it said.
        error: Error,
        /// What its fields are called here.
        names: Names,
    },
    /// Anything else.
    Unexpected(String),
}

impl Failure {
    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self::Usage { sentence: sentence.into(), violations: Vec::new(), hint: None }
    }

    /// Turns the service's errors into failures that name fields as the user knows them.
    pub(crate) fn naming(names: Names) -> impl Fn(Error) -> Self {
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
    pub(crate) fn told(&self, by: &Asked<'_>, spoken: Option<Spoken>, request_id: &str) -> Told {
        let Self::Service { error, names } = self else { return self.told_alone() };
        let mismatch = spoken.and_then(|spoken| mismatch(spoken, by.endpoint));
        let (message, hint) = match mismatch {
            Some((message, hint)) => (message, Some(hint)),
            None => (sentence(error, by), hint(error, by)),
        };
        let asked = !matches!(error, Error::Setup { .. });
        Told {
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
    pub(crate) fn told_alone(&self) -> Told {
        let (message, violations, hint) = match self {
            Self::Usage { sentence, violations, hint } => {
                (sentence.clone(), violations.clone(), hint.clone())
            }
            Self::Service { error, .. } => (error.to_string(), Vec::new(), None),
            Self::Unexpected(sentence) => (sentence.clone(), Vec::new(), None),
        };
        let code = if self.exit() == Exit::Usage { "USAGE" } else { "UNEXPECTED" };
        Told {
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
fn mismatch(spoken: Spoken, endpoint: &str) -> Option<(String, String)> {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    match (spoken, is_secure(endpoint)) {
        (Spoken::Tls, false) => Some((
            format!("cannot reach {endpoint}: the port is encrypted (TLS), and http:// is not"),
            format!("use https://{rest}, with --ca if this machine does not trust its certificate"),
        )),
        (Spoken::Http2, true) => Some((
            format!("cannot reach {endpoint}: the port is not encrypted, and https:// is"),
            format!("use http://{rest}, if the network in between is trusted"),
        )),
        (Spoken::Http1, _) => Some((
            format!("cannot reach {endpoint}: the port speaks HTTP/1, and gRPC is HTTP/2"),
            "it may be the port for health and metrics, or a proxy: gRPC is at TENANT_AUTH_LISTEN, port 50051 unless set"
                .to_owned(),
        )),
        (Spoken::Tls, true) | (Spoken::Http2, false) => None,
    }
}

fn sentence(error: &Error, by: &Asked<'_>) -> String {
    let (endpoint, timeout) = (by.endpoint, by.timeout);
    match error {
        Error::Setup { message } => format!("{}: {message}", by.endpoint_given_as),
        Error::Unreachable { message } => format!("cannot reach {endpoint}: {message}"),
        Error::Unavailable { message, reason: Some(reason), .. } => format!("{message} ({reason})"),
        Error::DeadlineExceeded => format!("{endpoint} gave no answer within {}", coarse(timeout)),
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

fn violations(error: &Error, names: Names) -> Vec<Wrong> {
    let Error::Invalid { violations, .. } = error else {
        return Vec::new();
    };
    let known = |violation: &Violation| Wrong {
        field: name(&violation.field, names),
        description: violation.description.clone(),
    };
    violations.iter().map(known).collect()
}

/// `scopes[1]` is the second `--scope`.
fn name(field: &str, names: Names) -> String {
    let (base, rest) = field.split_once('[').unwrap_or((field, ""));
    let Some((_, known)) = names.iter().find(|(field, _)| *field == base) else {
        return field.to_owned();
    };
    match rest.strip_suffix(']').and_then(|index| index.parse::<u32>().ok()) {
        Some(index) => format!("{known} (no. {})", u64::from(index) + 1),
        None => (*known).to_owned(),
    }
}

fn hint(error: &Error, by: &Asked<'_>) -> Option<String> {
    let endpoint = by.endpoint;
    match error {
        Error::Unreachable { .. } if is_secure(endpoint) => Some(format!(
            "is tenant-auth running at {endpoint}, with a certificate for this name that --ca, or else this machine, trusts?"
        )),
        Error::Unreachable { .. } => Some(format!(
            "is tenant-auth running at {endpoint}, without TLS? start one with `cargo run --release -- dev`"
        )),
        Error::Unavailable { retry_after, .. } | Error::Overloaded { retry_after, .. } => {
            let when = retry_after.map_or_else(|| "later".to_owned(), |time| format!("in {}", coarse(time)));
            Some(format!("try again {when}; the service's log says why"))
        }
        Error::DeadlineExceeded => {
            Some("a change may have been made all the same; --timeout sets how long to wait".to_owned())
        }
        Error::Unauthenticated { .. } if by.with_credentials => Some(
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

    const NAMES: Names = &[("tenant_id", "--tenant"), ("scopes", "--scope")];

    fn told(error: Error) -> Told {
        told_with(false, error)
    }

    fn told_with(with_credentials: bool, error: Error) -> Told {
        let by = Asked {
            endpoint: "http://host:1",
            endpoint_given_as: "--endpoint",
            timeout: Duration::from_secs(5),
            with_credentials,
        };
        Failure::naming(NAMES)(error).told(&by, None, "run-1")
    }

    #[test]
    fn fields_are_named_as_the_user_knows_them() {
        let violation =
            |field: &str| Violation { field: field.to_owned(), description: "must not be empty".to_owned() };
        let violations = ["tenant_id", "scopes[1]", "scopes", "odd[x]", "page_token"];
        let told =
            told(Error::Invalid { message: String::new(), violations: violations.map(violation).into() });
        let names: Vec<_> = told.violations.iter().map(|wrong| &*wrong.field).collect();
        assert_eq!(names, ["--tenant", "--scope (no. 2)", "--scope", "odd[x]", "page_token"]);
        assert_eq!(
            (&*told.code, told.request_id.as_deref(), told.exit_code),
            ("INVALID_ARGUMENT", Some("run-1"), 2)
        );
    }

    #[test]
    fn nobody_at_home_comes_with_what_to_do() {
        let told = told(Error::Unreachable { message: "refused".to_owned() });
        assert_eq!(told.message, "cannot reach http://host:1: refused");
        assert!(told.hint.unwrap().contains("cargo run --release -- dev"));
    }

    #[test]
    fn the_services_own_words_stand_alone() {
        let told = told(Error::NotFound { message: "there is no key k".to_owned(), reason: None });
        assert_eq!(told.message, "there is no key k");
        assert_eq!(told.hint, None);
    }

    #[test]
    fn who_is_not_known_is_told_what_is_missing() {
        let unknown = || Error::Unauthenticated { message: "who calls?".to_owned() };
        assert!(told(unknown()).hint.unwrap().contains("it needs --token-file"));
        let hint = told_with(true, unknown()).hint.unwrap();
        assert!(hint.contains("must list this token's hash"), "{hint}");
    }
}
