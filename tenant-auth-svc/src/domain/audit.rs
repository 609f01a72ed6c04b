//! Who changed what.

use std::{future::Future, sync::Arc};

use super::{
    clock::UnixMillis,
    id::TenantId,
    store::{Call, Change, StoreError},
};

/// Where the service's own log has what may never reach the audit log: lines that are all written, however many.
pub const AUDIT_TARGET: &str = "tenant_auth::audit";

/// Who asks for a change, and in which request: what the audit log says about every change.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The caller's name.
    pub caller: String,
    /// Id of the request, to find it in the log.
    pub request_id: String,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditAction {
    /// A tenant was created.
    TenantCreate,
    /// A tenant was suspended.
    TenantSuspend,
    /// A tenant was resumed.
    TenantResume,
    /// A key was issued.
    KeyIssue,
    /// A key was taken over from elsewhere.
    KeyImport,
    /// A key was replaced.
    KeyRotate,
    /// A key was withdrawn.
    KeyRevoke,
    /// A total of usage was set to the sum of its events.
    UsageRepair,
    /// The database was accepted as it is, instead of one that was known.
    DatabaseAccept,
    /// One replica was given another grace.
    GraceSet,
    /// … and its own again.
    GraceReset,
}

impl AuditAction {
    /// As the log writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TenantCreate => "tenant.create",
            Self::TenantSuspend => "tenant.suspend",
            Self::TenantResume => "tenant.resume",
            Self::KeyIssue => "key.issue",
            Self::KeyImport => "key.import",
            Self::KeyRotate => "key.rotate",
            Self::KeyRevoke => "key.revoke",
            Self::UsageRepair => "usage.repair",
            Self::DatabaseAccept => "database.accept",
            Self::GraceSet => "grace.set",
            Self::GraceReset => "grace.reset",
        }
    }
}

/// An entry about something that is in no table: it stands for itself, and may be written later than it happened.
#[derive(Clone, Debug)]
pub struct AuditEntry {
    /// Who, and when.
    pub change: Change,
    /// What was done.
    pub action: AuditAction,
    /// What it was done to.
    pub target: &'static str,
    /// What else is worth knowing.
    pub detail: String,
}

/// Where entries that stand for themselves are written.
pub trait AuditStore: Send + Sync + 'static {
    /// Writes entries, all or none; one that is there already is not written again.
    ///
    /// Fails with [`StoreError`] when the database gives no answer.
    fn write_audit(
        &self,
        call: Call,
        entries: &[Arc<AuditEntry>],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// An entry of the audit log as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// Its place in the log.
    pub seq: i64,
    /// When.
    pub at: UnixMillis,
    /// Who called.
    pub caller: String,
    /// What was done: text, because the log may hold actions of newer versions.
    pub action: String,
    /// Id of what it was done to.
    pub target: String,
    /// The tenant concerned.
    pub tenant_id: String,
    /// Id of the request.
    pub request_id: String,
    /// What else is worth knowing.
    pub detail: String,
}

/// Which entries to list.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Only those that concern this tenant.
    pub tenant: Option<TenantId>,
}
