//! What the use cases need of a database: one trait, and errors by kind.

mod call;
mod circuit;
mod failure;
mod lane;

use std::{future::Future, time::Duration};

pub use self::{
    call::{Call, Operation},
    circuit::Circuit,
    failure::{FailureKind, StoreError, UnreadableRecord},
    lane::{Lane, LaneAttempts, LanePolicy, LaneShare, LaneTimeouts},
};
use super::{
    audit::{Actor, AuditCursor, AuditEvent, AuditFilter},
    clock::UnixMillis,
    id::{KeyId, TenantId},
    identity::DatabaseIdentity,
    key::{
        ApiKey, ImportOutcome, KeyHash, KeyPrefixCursor, KeyRecord, KeyToImport, NewKey, Rotation,
        RotationOutcome, StoredKey,
    },
    page::{Page, PageRequest},
    session::{NewSession, Session, SessionId, SessionOpener, SessionRecord, StoredBinding, SweptSessions},
    tenant::{NewTenant, Tenant, TenantStatus},
    text::{PrefixHint, Reason},
    verdict::Revision,
};

/// Who changes something, and when.
#[derive(Clone, Debug)]
pub struct Change {
    /// Who asks for it.
    pub actor: Actor,
    /// The moment that is written into the row and the audit log.
    pub at: UnixMillis,
}

/// The answer to a lookup: complete, or it would be an error. One outcome per id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupResult<R> {
    /// As many as were asked for, in that order; `None` where there is none. A record that is there and cannot be read is
    /// an error by itself: never an absence, and nothing to the others.
    pub records: Vec<Result<Option<R>, UnreadableRecord>>,
    /// The change-log position that they reflect.
    pub revision: Revision,
    /// Of which database they are.
    pub database: DatabaseIdentity,
    /// Why nothing can be said about those that were not found: they may be stored in a way that this replica cannot look up.
    pub not_found_error: Option<StoreError>,
}

/// Why nothing is known of one id, although the database answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnknownReason {
    /// There is a record, and nobody can read it.
    Unreadable(UnreadableRecord),
    /// It was not found, and may be there all the same.
    Inconclusive(StoreError),
}

impl From<UnknownReason> for StoreError {
    fn from(reason: UnknownReason) -> Self {
        match reason {
            UnknownReason::Unreadable(unreadable) => unreadable.into(),
            UnknownReason::Inconclusive(error) => error,
        }
    }
}

impl<R> LookupResult<R> {
    /// One outcome each: the record, its absence, or why neither is known.
    pub fn into_outcomes(self) -> impl Iterator<Item = Result<Option<R>, UnknownReason>> {
        let Self { records, not_found_error: doubt, .. } = self;
        records.into_iter().map(move |record| match (record, &doubt) {
            (Ok(None), Some(doubt)) => Err(UnknownReason::Inconclusive(doubt.clone())),
            (record, _) => record.map_err(UnknownReason::Unreadable),
        })
    }
}

/// Keys in use, the most recently used ones first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentlyUsedKeys {
    /// Each with the digest it is stored under. Those that cannot be read are left out.
    pub keys: Vec<(StoredDigest, KeyRecord)>,
    /// After which key the next page starts; `None` when this is the last.
    pub next: Option<RecentlyUsedCursor>,
    /// The change-log position that they reflect.
    pub revision: Revision,
    /// Of which database they are.
    pub database: DatabaseIdentity,
}

/// A change that is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed<T> {
    /// What it came to.
    pub outcome: T,
    /// Where the change log ended with it: what was read before that lacks it.
    pub revision: Revision,
}

/// When a key was last used, and its id as stored, which need not be one that can be read.
pub type RecentlyUsedCursor = (UnixMillis, String);

/// The digest under which a key is stored.
pub type StoredDigest = [u8; 32];

/// The database, as the use cases see it.
///
/// Every change is one transaction that holds its audit entry, and is safe to repeat: a second run after a lost
/// answer changes nothing and gives the same result. Every method fails with [`StoreError`] when the database gives
/// no complete answer, and never reports an absence because of a failure. Listings leave out what cannot be read, and go on.
pub trait Store: Send + Sync + 'static {
    /// Finds the records of up to [`MAX_IDS_PER_LOOKUP`] keys in one statement.
    fn lookup_keys(
        &self,
        call: Call,
        hashes: &[KeyHash],
    ) -> impl Future<Output = Result<LookupResult<KeyRecord>, StoreError>> + Send;

    /// Lists keys that were used and not withdrawn, the most recently used first: up to `limit` after the given one.
    fn recently_used_keys(
        &self,
        call: Call,
        after: Option<RecentlyUsedCursor>,
        limit: usize,
    ) -> impl Future<Output = Result<RecentlyUsedKeys, StoreError>> + Send;

    /// Writes how long ago keys were last used, up to [`MAX_USES_PER_WRITE`] of them. What is known to be later stays.
    fn record_last_used(
        &self,
        call: Call,
        uses: &[(KeyId, Duration)],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Finds the records of up to [`MAX_IDS_PER_LOOKUP`] sessions in one statement.
    fn lookup_sessions(
        &self,
        call: Call,
        ids: &[SessionId],
    ) -> impl Future<Output = Result<LookupResult<SessionRecord>, StoreError>> + Send;

    /// Binds a session from now on, or finds it bound, and gives what a lookup would find. Sessions that are over, or whose key
    /// is, make room if the tenant has too many. The database's clock says what now is, and what is over.
    fn bind_session(
        &self,
        call: Call,
        new: &NewSession,
    ) -> impl Future<Output = Result<Committed<(StoredBinding, Option<SessionRecord>)>, StoreError>> + Send;

    /// Ends a session of a tenant; whether there was one that was not over.
    fn unbind_session(
        &self,
        call: Call,
        id: &SessionId,
        tenant: &TenantId,
    ) -> impl Future<Output = Result<Committed<bool>, StoreError>> + Send;

    /// Lists a tenant's sessions that are not over, nor their keys, newest first.
    fn list_sessions(
        &self,
        call: Call,
        tenant: &TenantId,
        page: &PageRequest<(UnixMillis, SessionId)>,
    ) -> impl Future<Output = Result<Page<Session, (UnixMillis, SessionId)>, StoreError>> + Send;

    /// Moves the ends of sliding sessions, up to [`MAX_USES_PER_WRITE`] of them: each was validated so long ago.
    fn extend_sessions(
        &self,
        call: Call,
        uses: &[(SessionId, Duration)],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Deletes up to `limit` sessions that have been over for longer than a time, by the database's clock. How many.
    fn sweep_expired_sessions(
        &self,
        call: Call,
        over_for: Duration,
        limit: usize,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Deletes up to `limit` sessions whose key or tenant has been over for longer than a time, by the database's clock: those
    /// of up to `limit` keys that opened sessions, after a given one.
    fn sweep_orphaned_sessions(
        &self,
        call: Call,
        after: Option<&SessionOpener>,
        over_for: Duration,
        limit: usize,
    ) -> impl Future<Output = Result<SweptSessions, StoreError>> + Send;

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
    ) -> impl Future<Output = Result<Committed<Option<Tenant>>, StoreError>> + Send;

    /// Stores an issued key, and gives what a lookup would find; `None` when there is no such tenant.
    fn insert_key(
        &self,
        call: Call,
        key: &NewKey,
        change: &Change,
    ) -> impl Future<Output = Result<Committed<Option<(ApiKey, KeyRecord)>>, StoreError>> + Send;

    /// Takes over keys; one outcome each, in order.
    fn import_keys(
        &self,
        call: Call,
        keys: &[KeyToImport],
        change: &Change,
    ) -> impl Future<Output = Result<Committed<Vec<ImportOutcome>>, StoreError>> + Send;

    /// Replaces a key.
    fn rotate_key(
        &self,
        call: Call,
        rotation: &Rotation,
        change: &Change,
    ) -> impl Future<Output = Result<Committed<RotationOutcome>, StoreError>> + Send;

    /// Withdraws a key; `None` when there is no such key.
    fn revoke_key(
        &self,
        call: Call,
        id: &KeyId,
        reason: &Reason,
        change: &Change,
    ) -> impl Future<Output = Result<Committed<Option<ApiKey>>, StoreError>> + Send;

    /// Lists a tenant's keys by id; with `live_at`, only those not withdrawn and not over at that moment.
    fn list_keys(
        &self,
        call: Call,
        tenant: &TenantId,
        page: &PageRequest<KeyId>,
        live_at: Option<UnixMillis>,
    ) -> impl Future<Output = Result<Page<ApiKey, KeyId>, StoreError>> + Send;

    /// Lists the keys that may begin with a prefix, those of one tenant or of all, by their first characters and then by id: keys
    /// whose stored first characters begin with it, or are the beginning of it. With `live_at` as for [`Self::list_keys`].
    fn find_keys(
        &self,
        call: Call,
        what: (&PrefixHint, Option<&TenantId>),
        page: &PageRequest<KeyPrefixCursor>,
        live_at: Option<UnixMillis>,
    ) -> impl Future<Output = Result<Page<ApiKey, KeyPrefixCursor>, StoreError>> + Send;

    /// Reads a key and its tenant; `None` when there is no such key.
    fn get_key(
        &self,
        call: Call,
        id: &KeyId,
    ) -> impl Future<Output = Result<Option<StoredKey>, StoreError>> + Send;

    /// Accepts the database as it is, instead of one that a replica knows: from now on its epoch is higher than that one's.
    /// Gives what it is then.
    fn accept_database(
        &self,
        call: Call,
        known: &DatabaseIdentity,
        reason: &Reason,
        change: &Change,
    ) -> impl Future<Output = Result<DatabaseIdentity, StoreError>> + Send;

    /// Reads the heartbeat that the primary has, and how old it is there.
    fn read_primary_heartbeat(
        &self,
        call: Call,
    ) -> impl Future<Output = Result<(i64, Duration), StoreError>> + Send;

    /// Changes the heartbeat, unless it was changed within the interval; gives it as it is then.
    fn write_heartbeat(
        &self,
        call: Call,
        interval: Duration,
    ) -> impl Future<Output = Result<i64, StoreError>> + Send;

    /// Lists the audit log, the latest moment first.
    fn list_audit(
        &self,
        call: Call,
        filter: &AuditFilter,
        page: &PageRequest<AuditCursor>,
    ) -> impl Future<Output = Result<Page<AuditEvent, AuditCursor>, StoreError>> + Send;
}

/// The most ids in one [`Store::lookup_keys`] or [`Store::lookup_sessions`].
pub const MAX_IDS_PER_LOOKUP: usize = 64;
/// The most uses in one [`Store::record_last_used`] or [`Store::extend_sessions`].
pub const MAX_USES_PER_WRITE: usize = 500;
