//! The statuses of errors about limits.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{ERROR_DOMAIN, status_with_reason, store_status};
use crate::domain::limit::{LimitSubject, admin::LimitAdminError};

pub(super) fn limit_admin_status(error: &LimitAdminError) -> Status {
    let (code, reason) = match error {
        LimitAdminError::NoSuchSubject(subject) => {
            let (reason, field) = match subject {
                LimitSubject::Key(_) => ("NO_SUCH_KEY", "subject.key_id"),
                LimitSubject::Plan(_) | LimitSubject::Tenant(_) => ("NO_SUCH_TENANT", "subject.tenant_id"),
            };
            let metadata = HashMap::from([("field".to_owned(), field.to_owned())]);
            let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, metadata);
            return Status::with_error_details(Code::NotFound, error.to_string(), details);
        }
        LimitAdminError::NoSuchLimit { .. } | LimitAdminError::NoneApplies { .. } => {
            (Code::NotFound, "NO_SUCH_LIMIT")
        }
        LimitAdminError::Changed { version, .. } => {
            let metadata = HashMap::from([("version".to_owned(), version.to_string())]);
            let details = ErrorDetails::with_error_info("LIMIT_VERSION_MISMATCH", ERROR_DOMAIN, metadata);
            return Status::with_error_details(Code::Aborted, error.to_string(), details);
        }
        LimitAdminError::NoCredits(_) => (Code::FailedPrecondition, "LIMIT_WITHOUT_CREDITS"),
        LimitAdminError::AdjustmentIdReused(_) => (Code::AlreadyExists, "ADJUSTMENT_ID_REUSED"),
        LimitAdminError::Store(error) => return store_status(error),
    };
    status_with_reason(code, reason, error.to_string())
}
