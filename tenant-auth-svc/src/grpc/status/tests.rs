//! Each error has the code and the details of the table in `status`.

use super::*;
use crate::{
    domain::id::KeyId,
    grpc::{
        error::Violation,
        permits::{Limiter, LimiterBounds, PermitHolder},
    },
};

fn status(error: impl Into<ApiError>) -> Status {
    Status::from(error.into())
}

#[test]
fn database_failure_has_a_reason_and_retry_delay() {
    for kind in FailureKind::ALL {
        let status = status(StoreError::new(kind, "secret detail of the database"));
        let expected = match kind {
            FailureKind::Overloaded | FailureKind::TooManyUnknownLookups => Code::ResourceExhausted,
            _ => Code::Unavailable,
        };
        assert_eq!(status.code(), expected, "{kind:?}");
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(info.domain, ERROR_DOMAIN);
        let is_unknown_lookup_limit = kind == FailureKind::TooManyUnknownLookups;
        assert!(
            info.reason.starts_with(if is_unknown_lookup_limit {
                "TOO_MANY_UNKNOWN_LOOKUPS"
            } else {
                "DATABASE_"
            }),
            "{}",
            info.reason
        );
        assert!(details.retry_info().unwrap().retry_delay.is_some());
        assert!(!format!("{status:?}").contains("secret detail"));
    }
}

#[test]
fn retry_delay_of_the_database_is_passed_on() {
    let mut error = StoreError::new(FailureKind::Throttled, "");
    error.retry_after = Some(Duration::from_secs(7));
    let details = status(error).get_error_details();
    assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(7)));
}

#[test]
fn refused_request_has_reason_and_retry_delay() {
    let limiter = Limiter::new(
        "requests",
        LimiterBounds { process: 7, per_caller: 0, unknown_callers: 0, per_unknown_address: 0 },
    );
    let reached = limiter.try_acquire(&PermitHolder { name: "api".into(), is_known: true }, 1).unwrap_err();
    let overloaded = status(reached);
    assert_eq!(overloaded.code(), Code::ResourceExhausted);
    let details = overloaded.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "OVERLOADED");
    assert_eq!(details.error_info().unwrap().domain, ERROR_DOMAIN);
    assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_millis(200)));

    let expired = status(ApiError::DeadlineExpired);
    assert_eq!(expired.code(), Code::DeadlineExceeded);
    assert_eq!(expired.get_error_details().error_info().unwrap().reason, "DEADLINE_EXPIRED");
}

#[test]
fn all_violations_are_listed() {
    let violations = ["key", "required_scopes[2]"]
        .map(|field| Violation { field: field.to_owned(), description: "must not be empty".to_owned() });
    let status = status(ApiError::Invalid(violations.into()));
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "key: must not be empty; required_scopes[2]: must not be empty");
    let details = status.get_error_details();
    assert_eq!(details.bad_request().unwrap().field_violations.len(), 2);
}

#[test]
fn many_violations_fit_into_response_headers() {
    let violation = |number| Violation {
        field: format!("requests[{number}].required_scopes[31]"),
        description: "must not have U+202E, an invisible character, as character 2: remove it".to_owned(),
    };
    let status = status(ApiError::Invalid((0..1_000).map(violation).collect()));
    assert!(status.message().ends_with("; and 980 more"), "{}", status.message());
    assert_eq!(status.get_error_details().bad_request().unwrap().field_violations.len(), 20);
    assert!(status.message().len() + status.details().len() * 4 / 3 < 8 * 1024);
}

#[test]
fn batch_item_error_has_the_details_of_a_call() {
    let message = status_message(AdminError::NoSuchKey(KeyId::parse("key_1").unwrap()).into());
    assert_eq!(message.code, i32::from(Code::NotFound));
    assert_eq!(message.message, "there is no key key_1");
    assert_eq!(message.details.len(), 1);
}
