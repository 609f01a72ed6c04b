//! Periodic work of the service, done explicitly.

use super::RunningService;
use crate::{domain::store::StoreError, jobs::audit_copy::AuditCopyError, service_types::ServiceLimits};

impl RunningService {
    /// Deletes old usage requests and events explicitly.
    ///
    /// # Errors
    /// When the database does not respond; what was not deleted is deleted the next time.
    pub async fn sweep_usage(&self) -> Result<(), StoreError> {
        self.usage_jobs.sweep().await
    }

    /// The limits in use.
    #[must_use]
    pub fn limits(&self) -> &ServiceLimits {
        &self.limit_jobs.leases
    }

    /// Ends expired leases and reservations, and deletes old rows of limits, explicitly.
    ///
    /// # Errors
    /// When the database does not respond.
    pub async fn sweep_limits(&self) -> Result<(), StoreError> {
        self.limit_jobs.sweep().await
    }

    /// Compares all usage totals with their events explicitly.
    ///
    /// # Errors
    /// When the database does not respond.
    pub async fn reconcile_usage(&self) -> Result<(), StoreError> {
        self.usage_jobs.reconcile().await
    }

    /// Copies new entries of the audit log to its file explicitly; does nothing without a file.
    ///
    /// # Errors
    /// When the database does not respond, or the file cannot be written; missing entries are written the next time.
    pub async fn copy_audit_log(&self) -> Result<(), AuditCopyError> {
        match &self.audit_copy {
            Some(copy) => copy.copy_new_entries().await,
            None => Ok(()),
        }
    }

    /// Deletes sessions that expired some time ago, explicitly. Returns their number.
    ///
    /// # Errors
    /// When the database does not respond.
    pub async fn sweep_sessions(&self) -> Result<u64, StoreError> {
        self.maintenance.sweep_sessions().await
    }
}
