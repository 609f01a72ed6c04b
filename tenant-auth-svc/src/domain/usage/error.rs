//! Errors of recording and querying usage.

use thiserror::Error;

use super::{EventRefusal, UsageRequestId};
use crate::domain::{id::TenantId, store::StoreError};

/// Why usage was not recorded or returned.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum UsageError {
    /// The caller used the id for other events.
    #[error("request_id {:?} was used for other events", .0.as_str())]
    PayloadMismatch(UsageRequestId),
    /// Too many events wait to be committed. Nothing of the request was recorded.
    #[error("too many events wait to be committed")]
    QueueFull,
    /// The replica is stopping. Nothing of the request was recorded.
    #[error("this replica is stopping")]
    Stopping,
    /// There is no such tenant.
    #[error("there is no tenant {0}")]
    NoSuchTenant(TenantId),
    /// One event can never be counted; the others are.
    #[error("the event {0}")]
    Refused(EventRefusal),
    /// The database call failed. The request may have been recorded all the same; repeating it is safe.
    #[error(transparent)]
    Store(#[from] StoreError),
}
