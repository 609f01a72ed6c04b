//! The audit log.

use std::{fmt, future::Future, sync::Arc};

use thiserror::Error;

use super::{
    clock::UnixMillis,
    id::TenantId,
    page::PageSize,
    store::{Call, Change, StoreError},
};

/// Log target for entries that may never reach the audit log. The service's log writes all of them, without
/// sampling.
pub const AUDIT_LOG_TARGET: &str = "tenant_auth::audit";

/// The caller and the request that ask for a change, for the audit log.
#[derive(Clone, Debug)]
pub struct Actor {
    /// Name of the caller.
    pub caller: String,
    /// Id of the request, which also appears in the service's log.
    pub request_id: String,
}

/// The kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditAction {
    /// A tenant was created.
    TenantCreate,
    /// A tenant was suspended.
    TenantSuspend,
    /// A tenant was resumed.
    TenantResume,
    /// The name or plan of a tenant was changed.
    TenantUpdate,
    /// A tenant was deleted.
    TenantDelete,
    /// A key was issued.
    KeyIssue,
    /// A key was imported.
    KeyImport,
    /// The name, scopes, networks or expiry of a key was changed, or it was disabled or enabled.
    KeyUpdate,
    /// A key was reported as leaked.
    KeyLeak,
    /// A key was replaced.
    KeyRotate,
    /// A key was revoked.
    KeyRevoke,
    /// A session was ended for a given reason.
    SessionUnbind,
    /// A limit was created or replaced.
    LimitSet,
    /// A limit was deleted.
    LimitDelete,
    /// Credits were added to a limit, or taken away.
    LimitAddCredits,
    /// A usage total was set to the sum of its events.
    UsageRepair,
    /// The database was accepted as it is, in place of the known one.
    DatabaseAccept,
    /// The grace of one replica was overridden.
    GraceSet,
    /// The grace of one replica was reset to its configured value.
    GraceReset,
}

impl AuditAction {
    /// All actions.
    pub const ALL: [Self; 18] = [
        Self::TenantCreate,
        Self::TenantSuspend,
        Self::TenantResume,
        Self::TenantUpdate,
        Self::TenantDelete,
        Self::KeyIssue,
        Self::KeyImport,
        Self::KeyUpdate,
        Self::KeyLeak,
        Self::KeyRotate,
        Self::KeyRevoke,
        Self::LimitSet,
        Self::LimitDelete,
        Self::LimitAddCredits,
        Self::UsageRepair,
        Self::DatabaseAccept,
        Self::GraceSet,
        Self::GraceReset,
    ];

    /// Returns the name used in the audit log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TenantCreate => "tenant.create",
            Self::TenantSuspend => "tenant.suspend",
            Self::TenantResume => "tenant.resume",
            Self::TenantUpdate => "tenant.update",
            Self::TenantDelete => "tenant.delete",
            Self::KeyIssue => "key.issue",
            Self::KeyImport => "key.import",
            Self::KeyUpdate => "key.update",
            Self::KeyLeak => "key.leak",
            Self::KeyRotate => "key.rotate",
            Self::KeyRevoke => "key.revoke",
            Self::SessionUnbind => "session.unbind",
            Self::LimitSet => "limit.set",
            Self::LimitDelete => "limit.delete",
            Self::LimitAddCredits => "limit.add_credits",
            Self::UsageRepair => "usage.repair",
            Self::DatabaseAccept => "database.accept",
            Self::GraceSet => "grace.set",
            Self::GraceReset => "grace.reset",
        }
    }
}

/// An entry about a change that is stored in no table. It may be written later than the change was made.
#[derive(Clone, Debug)]
pub struct AuditEntry {
    /// Who made the change, and when.
    pub change: Change,
    /// The kind of change.
    pub action: AuditAction,
    /// What was changed.
    pub target: &'static str,
    /// Further details.
    pub detail: String,
}

/// Writes entries about changes that are stored in no table, and reads the log in its own order.
pub trait AuditStore: Send + Sync + 'static {
    /// Writes all entries or none. An entry that exists already is not written again.
    ///
    /// Fails with [`StoreError`] when the database does not respond.
    fn write_audit(
        &self,
        call: Call,
        entries: &[Arc<AuditEntry>],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Reads the entries after a checkpoint, oldest first; from the beginning if the log does not contain the
    /// checkpoint.
    ///
    /// Fails with [`StoreError`] when the database does not respond.
    fn read_audit(
        &self,
        call: Call,
        after: Option<&AuditCheckpoint>,
        size: PageSize,
    ) -> impl Future<Output = Result<AuditBatch, StoreError>> + Send;
}

/// Identifies an entry, so that another entry at the same position is recognised, for example after a restore
/// of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditCheckpoint {
    /// Position in the log.
    pub seq: i64,
    /// Time of the change.
    pub at: UnixMillis,
    /// Id of the changed object.
    pub target: String,
    /// Id of the request.
    pub request_id: String,
}

impl AuditCheckpoint {
    /// Returns the checkpoint of an entry.
    #[must_use]
    pub fn of(event: &AuditEvent) -> Self {
        Self {
            seq: event.seq,
            at: event.at,
            target: event.target.clone(),
            request_id: event.request_id.clone(),
        }
    }
}

/// A batch of the log, in its own order.
#[derive(Clone, Debug)]
pub struct AuditBatch {
    /// The entries.
    pub events: Vec<AuditEvent>,
    /// Whether it starts at the beginning because the log does not contain the checkpoint.
    pub from_beginning: bool,
    /// Whether there are more entries.
    pub has_more: bool,
}

/// A stored entry of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// Position in the log.
    pub seq: i64,
    /// Time of the change.
    pub at: UnixMillis,
    /// Name of the caller.
    pub caller: String,
    /// The kind of change, as text: the log may contain actions of newer versions.
    pub action: String,
    /// Id of the changed object.
    pub target: String,
    /// The tenant concerned.
    pub tenant_id: String,
    /// Id of the request.
    pub request_id: String,
    /// Further details.
    pub detail: String,
}

/// A value that an entry's target, caller or action is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditTerm(Box<str>);

/// Why a text is not a valid [`AuditTerm`]. The message completes the sentence "the value …".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("must have 1 to {} visible ASCII characters, as in the audit log", AuditTerm::MAX_LEN)]
pub struct InvalidAuditTerm;

impl AuditTerm {
    /// Maximum length, in bytes: longer than any caller name, address or id.
    pub const MAX_LEN: usize = 128;

    /// Accepts a text that may occur in the log.
    ///
    /// # Errors
    /// [`InvalidAuditTerm`] when it is empty, too long, or contains a space or another character that no name
    /// or id has.
    pub fn parse(text: &str) -> Result<Self, InvalidAuditTerm> {
        let fits = (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(Self(text.into())) } else { Err(InvalidAuditTerm) }
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Selects entries: those that match all given conditions.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Only entries that concern this tenant.
    pub tenant: Option<TenantId>,
    /// Only entries about the tenant, key, session or database with this id.
    pub target: Option<AuditTerm>,
    /// Only entries of this caller.
    pub caller: Option<AuditTerm>,
    /// Only entries with this action.
    pub action: Option<AuditTerm>,
    /// Only entries at or after this time.
    pub since: Option<UnixMillis>,
    /// Only entries before this time.
    pub until: Option<UnixMillis>,
}

/// Position of an entry in a list: by time, and among entries of the same time by position in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditCursor {
    /// Time of the change.
    pub at: UnixMillis,
    /// Position in the log.
    pub seq: i64,
}

impl AuditCursor {
    /// The start of a list, before the newest entry.
    pub const START: Self = Self { at: UnixMillis(i64::MAX), seq: i64::MAX };

    /// Parses the text that [`Display`](fmt::Display) writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (at, seq) = text.split_once('.')?;
        Some(Self { at: UnixMillis(at.parse().ok()?), seq: seq.parse().ok()? })
    }
}

impl fmt::Display for AuditCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.at.0, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_round_trips_through_text() {
        for position in [AuditCursor::START, AuditCursor { at: UnixMillis(-5), seq: 7 }] {
            assert_eq!(AuditCursor::parse(&position.to_string()), Some(position));
        }
        for text in ["", "7", "1.", ".1", "1.2.3", "a.b"] {
            assert_eq!(AuditCursor::parse(text), None, "{text}");
        }
    }

    #[test]
    fn term_accepts_visible_ascii_only() {
        for text in ["api", "unauthenticated@2001:db8::1", "key_1"] {
            assert_eq!(AuditTerm::parse(text).unwrap().as_str(), text);
        }
        for text in ["", "a b", "ü", "a\n", &"x".repeat(129)] {
            assert_eq!(AuditTerm::parse(text), Err(InvalidAuditTerm), "{text}");
        }
    }
}
