//! What the use cases need of a database: one trait, and errors by kind.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use thiserror::Error;

use super::{
    audit::{Actor, AuditEvent, AuditFilter},
    clock::UnixMillis,
    id::{KeyId, TenantId},
    key::{ApiKey, ImportOutcome, KeyHash, KeyRecord, KeyToImport, NewKey, Rotated, Rotation},
    page::{Page, PageRequest},
    tenant::{NewTenant, Tenant, TenantStatus},
    text::Reason,
    verdict::Revision,
};

/// What a database call is for. Each lane has an allowance of its own, so that none can starve another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Reloading keys that are in memory.
    Known,
    /// Looking for keys that are not: a flood of made-up ones must not hold up the others.
    Unknown,
    /// Managing tenants and keys.
    Admin,
    /// Reading the change log.
    Feed,
    /// Recording and summing usage.
    Usage,
    /// Migrations and start-up checks.
    Maintenance,
}

impl Lane {
    /// Every lane.
    pub const ALL: [Self; 6] =
        [Self::Known, Self::Unknown, Self::Admin, Self::Feed, Self::Usage, Self::Maintenance];

    /// As logs and metrics write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Unknown => "unknown",
            Self::Admin => "admin",
            Self::Feed => "feed",
            Self::Usage => "usage",
            Self::Maintenance => "maintenance",
        }
    }
}

/// The circumstances of a database call.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// What it is for.
    pub lane: Lane,
    /// When nobody waits for it any longer. The database hop may give up sooner, never later.
    pub deadline: Instant,
}

impl Call {
    /// A call that may take this long.
    #[must_use]
    pub fn within(lane: Lane, time: Duration) -> Self {
        Self { lane, deadline: Instant::now() + time }
    }
}

/// What went wrong between the service and its database: the kind decides what happens next, never the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// No connection, or one that broke.
    Unreachable,
    /// No answer in time.
    TimedOut,
    /// The database asks for fewer calls.
    Throttled,
    /// The database is locked by somebody else for the moment.
    Busy,
    /// The database refuses our credentials, or has been suspended.
    Denied,
    /// The answer makes no sense: not the protocol, cut short, or rows that cannot be.
    Garbled,
    /// The database lacks a table or namespace that we need: not migrated, or the wrong one.
    Misplaced,
    /// It was not asked, because it has not answered for a while: the breaker is open.
    CircuitOpen,
    /// Too many calls of ours are waiting already.
    Overloaded,
    /// A rule of the schema forbids it.
    Conflict,
    /// Anything else: a defect on one of the two sides.
    Broken,
}

impl FailureKind {
    /// As logs, metrics and error details write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Throttled => "throttled",
            Self::Busy => "busy",
            Self::Denied => "denied",
            Self::Garbled => "garbled",
            Self::Misplaced => "misplaced",
            Self::CircuitOpen => "circuit_open",
            Self::Overloaded => "overloaded",
            Self::Conflict => "conflict",
            Self::Broken => "broken",
        }
    }

    /// What such a failure says about the database: that it answers all the same, that it does not, or (`None`)
    /// nothing, because it was not asked.
    #[must_use]
    pub fn database_works(self) -> Option<bool> {
        match self {
            Self::Conflict => Some(true),
            Self::CircuitOpen | Self::Overloaded => None,
            Self::Unreachable
            | Self::TimedOut
            | Self::Throttled
            | Self::Busy
            | Self::Denied
            | Self::Garbled
            | Self::Misplaced
            | Self::Broken => Some(false),
        }
    }

    /// Whether the same call may well succeed a moment later.
    #[must_use]
    pub fn is_transient(self) -> bool {
        match self {
            Self::Unreachable | Self::TimedOut | Self::Busy | Self::Garbled => true,
            Self::Throttled
            | Self::Denied
            | Self::Misplaced
            | Self::CircuitOpen
            | Self::Overloaded
            | Self::Conflict
            | Self::Broken => false,
        }
    }
}

/// The database gave no answer. It says nothing about the key, the tenant, or whatever was asked for.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the database is {}: {message}", kind.as_str())]
pub struct StoreError {
    /// What went wrong.
    pub kind: FailureKind,
    /// For the log; holds no secret and is not shown to callers.
    pub message: String,
    /// When the database asked to be called again.
    pub retry_after: Option<Duration>,
}

impl StoreError {
    /// An error without a wish for the next call.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }
}

/// Who changes something, and when.
#[derive(Clone, Debug)]
pub struct Change {
    /// Who asks for it.
    pub actor: Actor,
    /// The moment that is written into the row and the audit log.
    pub at: UnixMillis,
}

/// The answer to a lookup: complete, or it would be an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<R> {
    /// As many as were asked for, in that order; `None` where there is none.
    pub records: Vec<Option<R>>,
    /// The change-log position that they reflect.
    pub revision: Revision,
}

/// Keys in use, the most recently used ones first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InUse {
    /// Each with the digest it is stored under.
    pub keys: Vec<(StoredDigest, KeyRecord)>,
    /// The change-log position that they reflect.
    pub revision: Revision,
}

/// The digest under which a key is stored.
pub type StoredDigest = [u8; 32];

/// The database, as the use cases see it.
///
/// Every change is one transaction that holds its audit entry, and is safe to repeat: a second run after a lost
/// answer changes nothing and gives the same result. Every method fails with [`StoreError`] when the database gives
/// no complete answer, and never reports an absence because of a failure.
pub trait Store: Send + Sync + 'static {
    /// Finds the records of up to [`MAX_LOOKUP`] keys in one statement.
    fn lookup_keys(
        &self,
        call: Call,
        hashes: &[KeyHash],
    ) -> impl Future<Output = Result<Found<KeyRecord>, StoreError>> + Send;

    /// Lists keys that were used and not withdrawn, the most recently used first: up to `limit` after the given one.
    fn keys_in_use(
        &self,
        call: Call,
        after: Option<(UnixMillis, KeyId)>,
        limit: usize,
    ) -> impl Future<Output = Result<InUse, StoreError>> + Send;

    /// Writes when keys were last used, up to [`MAX_USED`] of them. What is known to be later stays.
    fn note_uses(
        &self,
        call: Call,
        uses: &[(KeyId, UnixMillis)],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Creates a tenant, or finds the one that has its id; the caller compares.
    fn create_tenant(
        &self,
        call: Call,
        tenant: &NewTenant,
        change: &Change,
    ) -> impl Future<Output = Result<Tenant, StoreError>> + Send;

    /// Reads a tenant.
    fn get_tenant(
        &self,
        call: Call,
        id: &TenantId,
    ) -> impl Future<Output = Result<Option<Tenant>, StoreError>> + Send;

    /// Lists tenants by id.
    fn list_tenants(
        &self,
        call: Call,
        page: &PageRequest<TenantId>,
    ) -> impl Future<Output = Result<Page<Tenant, TenantId>, StoreError>> + Send;

    /// Suspends or resumes a tenant; `None` when there is no such tenant.
    fn set_tenant_status(
        &self,
        call: Call,
        id: &TenantId,
        status: TenantStatus,
        reason: Option<&Reason>,
        change: &Change,
    ) -> impl Future<Output = Result<Option<Tenant>, StoreError>> + Send;

    /// Stores an issued key; `None` when there is no such tenant.
    fn insert_key(
        &self,
        call: Call,
        key: &NewKey,
        change: &Change,
    ) -> impl Future<Output = Result<Option<ApiKey>, StoreError>> + Send;

    /// Takes over keys; one outcome each, in order.
    fn import_keys(
        &self,
        call: Call,
        keys: &[KeyToImport],
        change: &Change,
    ) -> impl Future<Output = Result<Vec<ImportOutcome>, StoreError>> + Send;

    /// Replaces a key.
    fn rotate_key(
        &self,
        call: Call,
        rotation: &Rotation,
        change: &Change,
    ) -> impl Future<Output = Result<Rotated, StoreError>> + Send;

    /// Withdraws a key; `None` when there is no such key.
    fn revoke_key(
        &self,
        call: Call,
        id: &KeyId,
        reason: &Reason,
        change: &Change,
    ) -> impl Future<Output = Result<Option<ApiKey>, StoreError>> + Send;

    /// Lists a tenant's keys by id; with `live_at`, only those not withdrawn and not over at that moment.
    fn list_keys(
        &self,
        call: Call,
        tenant: &TenantId,
        page: &PageRequest<KeyId>,
        live_at: Option<UnixMillis>,
    ) -> impl Future<Output = Result<Page<ApiKey, KeyId>, StoreError>> + Send;

    /// Lists the audit log, newest first.
    fn list_audit(
        &self,
        call: Call,
        filter: &AuditFilter,
        page: &PageRequest<i64>,
    ) -> impl Future<Output = Result<Page<AuditEvent, i64>, StoreError>> + Send;
}

/// The most keys in one [`Store::lookup_keys`].
pub const MAX_LOOKUP: usize = 64;
/// The most keys in one [`Store::note_uses`].
pub const MAX_USED: usize = 500;
