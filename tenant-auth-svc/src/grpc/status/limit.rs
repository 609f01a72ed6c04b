//! Errors of `LimitService`.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{DEFAULT_RETRY_DELAY, ERROR_DOMAIN, status_with_reason, store_status};
use crate::domain::limit::{LimitError, ReservationError};

pub(super) fn limit_status(error: &LimitError) -> Status {
    match error {
        LimitError::Undecided { .. } => {
            let mut details = ErrorDetails::with_error_info("LIMIT_UNDECIDED", ERROR_DOMAIN, HashMap::new());
            details.set_retry_info(Some(DEFAULT_RETRY_DELAY));
            Status::with_error_details(Code::Unavailable, error.to_string(), details)
        }
        LimitError::Store(error) => store_status(error),
        LimitError::IdConflict => status_with_reason(Code::AlreadyExists, "ID_REUSED", error.to_string()),
        LimitError::TooManyLimits => {
            status_with_reason(Code::FailedPrecondition, "TOO_MANY_LIMITS", error.to_string())
        }
    }
}

pub(super) fn reservation_status(error: &ReservationError) -> Status {
    match error {
        ReservationError::NotFound => {
            status_with_reason(Code::NotFound, "NO_SUCH_RESERVATION", error.to_string())
        }
        ReservationError::Settled => {
            status_with_reason(Code::FailedPrecondition, "RESERVATION_SETTLED", error.to_string())
        }
        ReservationError::Store(error) => store_status(error),
    }
}
