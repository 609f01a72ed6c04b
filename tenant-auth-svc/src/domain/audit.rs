//! Who changed what.

use std::{fmt, future::Future, sync::Arc};

use thiserror::Error;

use super::{
    clock::UnixMillis,
    id::TenantId,
    page::PageSize,
    store::{Call, Change, StoreError},
};

/// Where the service's own log has what may never reach the audit log: lines that are all written, however many.
pub const AUDIT_LOG_TARGET: &str = "tenant_auth::audit";

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

/// Where entries that stand for themselves are written, and where the log is read in its own order.
pub trait AuditStore: Send + Sync + 'static {
    /// Writes entries, all or none; one that is there already is not written again.
    ///
    /// Fails with [`StoreError`] when the database gives no answer.
    fn write_audit(
        &self,
        call: Call,
        entries: &[Arc<AuditEntry>],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Reads on after an entry, the oldest first; from the beginning where the log does not hold that one.
    ///
    /// Fails with [`StoreError`] when the database gives no answer.
    fn read_audit(
        &self,
        call: Call,
        after: Option<&AuditCheckpoint>,
        size: PageSize,
    ) -> impl Future<Output = Result<AuditBatch, StoreError>> + Send;
}

/// What tells an entry from another one in its place: that of a database which was restored, say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditCheckpoint {
    /// Its place in the log.
    pub seq: i64,
    /// When.
    pub at: UnixMillis,
    /// Id of what it was done to.
    pub target: String,
    /// Id of the request.
    pub request_id: String,
}

impl AuditCheckpoint {
    /// That of an entry.
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

/// A part of the log, in its own order.
#[derive(Clone, Debug)]
pub struct AuditBatch {
    /// The entries.
    pub events: Vec<AuditEvent>,
    /// Whether it begins at the beginning, because the log does not hold the entry after which it was to be read.
    pub from_beginning: bool,
    /// Whether there are more.
    pub has_more: bool,
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

/// What an entry's target or caller is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditTerm(Box<str>);

/// Why a text is no [`AuditTerm`]. The message completes the sentence "the value …".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("must have 1 to {} visible ASCII characters, as in the audit log", AuditTerm::MAX_LEN)]
pub struct InvalidAuditTerm;

impl AuditTerm {
    /// The greatest length, in bytes: longer than any caller's name, address or id.
    pub const MAX_LEN: usize = 128;

    /// Accepts what can stand in the log.
    ///
    /// # Errors
    /// [`InvalidAuditTerm`] when it is empty, too long, or holds a blank or another character that no name or id has.
    pub fn parse(text: &str) -> Result<Self, InvalidAuditTerm> {
        let fits = (1..=Self::MAX_LEN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(Self(text.into())) } else { Err(InvalidAuditTerm) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which entries to list: those that everything given applies to.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Only those that concern this tenant.
    pub tenant: Option<TenantId>,
    /// Only those about the tenant, key or database of this id.
    pub target: Option<AuditTerm>,
    /// Only those of this caller.
    pub caller: Option<AuditTerm>,
    /// Only those of this moment and later.
    pub since: Option<UnixMillis>,
    /// Only those from before this moment.
    pub until: Option<UnixMillis>,
}

/// Where an entry stands in a list: by its moment, and among those of one moment by its place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditCursor {
    /// When.
    pub at: UnixMillis,
    /// Its place in the log.
    pub seq: i64,
}

impl AuditCursor {
    /// Before every entry of a list: the latest moment there is.
    pub const START: Self = Self { at: UnixMillis(i64::MAX), seq: i64::MAX };

    /// Reads what [`Display`](fmt::Display) writes.
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
