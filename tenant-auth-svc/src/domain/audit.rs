//! Who changed what.

use super::{clock::UnixMillis, id::TenantId};

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
    /// The database was accepted as it is, instead of one that was known.
    DatabaseAccept,
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
            Self::DatabaseAccept => "database.accept",
        }
    }
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
