//! The storage interface of the use cases: one trait, and errors by kind.

mod by_name;
mod call;
mod circuit;
mod failure;
mod lane;
mod lookup_result;
mod recently_used;

use std::{future::Future, time::Duration};

pub use self::{
    by_name::{NameCursor, NamedRecords},
    call::{Call, Operation, ReadFrom},
    circuit::Circuit,
    failure::{FailureKind, StoreError, UnreadableRecord},
    lane::{Lane, LaneAttempts, LanePolicy, LaneShare, LaneTimeouts},
    lookup_result::{LookupResult, UnknownReason},
    recently_used::{KnownTenants, RecentlyUsedCursor, RecentlyUsedKeys, StoredTenant},
};
use super::{
    audit::{Actor, AuditCursor, AuditEvent, AuditFilter},
    clock::UnixMillis,
    etag::Etag,
    id::{KeyId, TenantId},
    identity::DatabaseIdentity,
    key::{
        ApiKey, ImportOutcome, KeyHash, KeyPrefixCursor, KeyRecord, KeyToImport, KeyUpdate, NewKey, Rotation,
        RotationOutcome, StoredKey,
    },
    page::{Page, PageRequest},
    session::{NewSession, Session, SessionId, SessionOpener, SessionRecord, StoredBinding, SweptSessions},
    tenant::{
        CreatedTenant, DeletedRows, DeletionState, NewTenant, Tenant, TenantDeletion, TenantStatus,
        TenantUpdate,
    },
    text::{PrefixHint, Reason},
    verdict::Revision,
};

/// Who makes a change, and when.
#[derive(Clone, Debug)]
pub struct Change {
    /// The caller.
    pub actor: Actor,
    /// The time that is written into the row and the audit log.
    pub at: UnixMillis,
}

/// The outcome of a committed change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed<T> {
    /// The outcome.
    pub outcome: T,
    /// The end of the change log with the change. A result that was read before it lacks the change.
    pub revision: Revision,
}

/// What must hold for an update, and why it is made.
#[derive(Clone, Debug, Default)]
pub struct UpdateConditions {
    /// The version that the update was based on; `None` for any.
    pub etag: Option<Etag>,
    /// Why, for the audit log.
    pub reason: Option<Reason>,
}

/// The digest under which a key is stored.
pub type StoredDigest = [u8; 32];

/// The database, as the use cases need it.
///
/// Every change is one transaction that includes its audit entry, and is safe to repeat: after a lost
/// response, a second run changes nothing and returns the same result. Every method fails with [`StoreError`]
/// when the database returns no complete result, and never reports a record as missing because of a failure.
/// Listings skip unreadable records.
pub trait Store: Send + Sync + 'static {
    /// Looks up to [`MAX_IDS_PER_LOOKUP`] keys up in one statement.
    fn lookup_keys(
        &self,
        call: Call,
        hashes: &[KeyHash],
    ) -> impl Future<Output = Result<LookupResult<KeyRecord>, StoreError>> + Send;

    /// Lists used keys that are not revoked, the latest use first: up to `limit` after the given one. Tenants that are
    /// not among the known ones are read, and added to them.
    fn recently_used_keys(
        &self,
        call: Call,
        after: Option<RecentlyUsedCursor>,
        limit: usize,
        tenants: &mut KnownTenants,
    ) -> impl Future<Output = Result<RecentlyUsedKeys, StoreError>> + Send;

    /// Records how long ago keys were last used, for up to [`MAX_USES_PER_WRITE`] keys. A later stored time
    /// is kept.
    fn record_last_used(
        &self,
        call: Call,
        uses: &[(KeyId, Duration)],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Looks up to [`MAX_IDS_PER_LOOKUP`] sessions up in one statement.
    fn lookup_sessions(
        &self,
        call: Call,
        ids: &[SessionId],
    ) -> impl Future<Output = Result<LookupResult<SessionRecord>, StoreError>> + Send;

    /// Binds a session, or finds it bound, and returns the record that a lookup would find. If the tenant has
    /// too many sessions, expired ones, and ones whose key is revoked or expired, are removed to free their slots.
    /// Times are compared with the database's clock.
    fn bind_session(
        &self,
        call: Call,
        new: &NewSession,
    ) -> impl Future<Output = Result<Committed<(StoredBinding, Option<SessionRecord>)>, StoreError>> + Send;

    /// Unbinds a session of a tenant. Returns whether there was one that had not expired. With a reason, the audit log gets an
    /// entry if there was one.
    fn unbind_session(
        &self,
        call: Call,
        id: &SessionId,
        tenant: &TenantId,
        reason: Option<(&Reason, &Change)>,
    ) -> impl Future<Output = Result<Committed<bool>, StoreError>> + Send;

    /// Lists a tenant's sessions, newest first, without expired ones and those whose key is revoked or expired.
    fn list_sessions(
        &self,
        call: Call,
        tenant: &TenantId,
        page: &PageRequest<(UnixMillis, SessionId)>,
    ) -> impl Future<Output = Result<Page<Session, (UnixMillis, SessionId)>, StoreError>> + Send;

    /// Extends sliding sessions, up to [`MAX_USES_PER_WRITE`] of them. Each duration is the time since the
    /// last validation.
    fn extend_sessions(
        &self,
        call: Call,
        uses: &[(SessionId, Duration)],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Deletes up to `limit` sessions that expired longer ago than a time, by the database's clock. Returns
    /// how many.
    fn sweep_expired_sessions(
        &self,
        call: Call,
        over_for: Duration,
        limit: usize,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Deletes up to `limit` sessions whose key or tenant became invalid longer ago than a time, by the
    /// database's clock. It checks up to `limit` keys that opened sessions, after the given one.
    fn sweep_orphaned_sessions(
        &self,
        call: Call,
        after: Option<&SessionOpener>,
        over_for: Duration,
        limit: usize,
    ) -> impl Future<Output = Result<SweptSessions, StoreError>> + Send;

    /// Creates a tenant, or returns the one with its id; the caller compares them.
    fn create_tenant(
        &self,
        call: Call,
        tenant: &NewTenant,
        change: &Change,
    ) -> impl Future<Output = Result<Committed<CreatedTenant>, StoreError>> + Send;

    /// Changes values of a tenant; the caller compares them, because the tenant is unchanged if its version is
    /// not the expected one. `None` when there is no such tenant.
    fn update_tenant(
        &self,
        call: Call,
        id: &TenantId,
        update: &TenantUpdate,
        conditions: &UpdateConditions,
        change: &Change,
    ) -> impl Future<Output = Result<Committed<Option<Tenant>>, StoreError>> + Send;

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

    /// Deletes up to `limit` rows of each kind of a suspended tenant, and the tenant itself when nothing else is left.
    fn delete_tenant_step(
        &self,
        call: Call,
        deletion: &TenantDeletion,
        limit: usize,
        change: &Change,
    ) -> impl Future<Output = Result<Committed<(DeletionState, DeletedRows)>, StoreError>> + Send;

    /// Stores an issued key, and returns it with the record that a lookup would find; `None` when there is no
    /// such tenant.
    fn insert_key(
        &self,
        call: Call,
        key: &NewKey,
        reason: Option<&Reason>,
        change: &Change,
    ) -> impl Future<Output = Result<Committed<Option<(ApiKey, KeyRecord)>>, StoreError>> + Send;

    /// Imports keys; one outcome each, in order.
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

    /// Revokes a key; `None` when there is no such key.
    fn revoke_key(
        &self,
        call: Call,
        id: &KeyId,
        reason: &Reason,
        change: &Change,
    ) -> impl Future<Output = Result<Committed<Option<ApiKey>>, StoreError>> + Send;

    /// Changes values of a key; the caller compares them, because the key is unchanged if it is revoked, or if
    /// its version is not the expected one. `None` when there is no such key.
    fn update_key(
        &self,
        call: Call,
        id: &KeyId,
        update: &KeyUpdate,
        conditions: &UpdateConditions,
        change: &Change,
    ) -> impl Future<Output = Result<Committed<Option<ApiKey>>, StoreError>> + Send;

    /// Lists a tenant's keys by id; with `live_at`, only those that are neither revoked nor expired at that
    /// time.
    fn list_keys(
        &self,
        call: Call,
        tenant: &TenantId,
        page: &PageRequest<KeyId>,
        live_at: Option<UnixMillis>,
    ) -> impl Future<Output = Result<Page<ApiKey, KeyId>, StoreError>> + Send;

    /// Lists the keys that may start with a prefix, of one tenant or of all, by their first characters and
    /// then by id. These are the keys whose stored first characters start with the prefix, or are a prefix of
    /// it. `live_at` is as for [`Self::list_keys`].
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

    /// Accepts the database as it is, in place of the known one: its epoch is raised above the known one.
    /// Returns the new identity.
    fn accept_database(
        &self,
        call: Call,
        known: &DatabaseIdentity,
        reason: &Reason,
        change: &Change,
    ) -> impl Future<Output = Result<DatabaseIdentity, StoreError>> + Send;

    /// Reads the heartbeat from the primary, and its age there.
    fn read_primary_heartbeat(
        &self,
        call: Call,
    ) -> impl Future<Output = Result<(i64, Duration), StoreError>> + Send;

    /// Writes the heartbeat, unless it was written within the interval. Returns the current heartbeat.
    fn write_heartbeat(
        &self,
        call: Call,
        interval: Duration,
    ) -> impl Future<Output = Result<i64, StoreError>> + Send;

    /// Lists the audit log, newest entries first.
    fn list_audit(
        &self,
        call: Call,
        filter: &AuditFilter,
        page: &PageRequest<AuditCursor>,
    ) -> impl Future<Output = Result<Page<AuditEvent, AuditCursor>, StoreError>> + Send;
}

/// Maximum number of ids in one [`Store::lookup_keys`] or [`Store::lookup_sessions`].
pub const MAX_IDS_PER_LOOKUP: usize = 64;
/// Maximum number of uses in one [`Store::record_last_used`] or [`Store::extend_sessions`].
pub const MAX_USES_PER_WRITE: usize = 500;
