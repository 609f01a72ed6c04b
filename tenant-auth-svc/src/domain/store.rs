//! What the use cases need of a database: one trait, and errors by kind.

mod call;
mod failure;

use std::future::Future;

pub use self::{
    call::{Call, Lane},
    failure::{FailureKind, StoreError},
};
use super::{
    audit::{Actor, AuditEvent, AuditFilter},
    clock::UnixMillis,
    id::{KeyId, TenantId},
    key::{ApiKey, ImportOutcome, KeyHash, KeyRecord, KeyToImport, NewKey, Rotated, Rotation},
    page::{Page, PageRequest},
    session::{Binding, NewSession, Session, SessionId, SessionRecord},
    tenant::{NewTenant, Tenant, TenantStatus},
    text::Reason,
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

/// The answer to a lookup: complete, or it would be an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<R> {
    /// As many as were asked for, in that order; `None` where there is none.
    pub records: Vec<Option<R>>,
    /// The change-log position that they reflect.
    pub revision: Revision,
    /// Why nothing can be said about those that were not found: they may be stored in a way that this replica cannot look up.
    pub doubt: Option<StoreError>,
}

impl<R> Found<R> {
    /// One outcome each: the record, its absence, or that neither is known.
    pub fn into_outcomes(self) -> impl Iterator<Item = Result<Option<R>, StoreError>> {
        let Self { records, doubt, .. } = self;
        records.into_iter().map(move |record| match (record, &doubt) {
            (None, Some(doubt)) => Err(doubt.clone()),
            (record, _) => Ok(record),
        })
    }
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

    /// Finds the records of up to [`MAX_LOOKUP`] sessions in one statement.
    fn lookup_sessions(
        &self,
        call: Call,
        ids: &[SessionId],
    ) -> impl Future<Output = Result<Found<SessionRecord>, StoreError>> + Send;

    /// Binds a session, or finds it bound. Sessions that are over make room if the tenant has too many.
    fn bind_session(
        &self,
        call: Call,
        new: &NewSession,
    ) -> impl Future<Output = Result<Binding, StoreError>> + Send;

    /// Ends a session of a tenant; whether there was one that was not over at that moment.
    fn unbind_session(
        &self,
        call: Call,
        id: &SessionId,
        tenant: &TenantId,
        now: UnixMillis,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Lists a tenant's sessions that are not over at a moment, newest first.
    fn list_sessions(
        &self,
        call: Call,
        tenant: &TenantId,
        now: UnixMillis,
        page: &PageRequest<(UnixMillis, SessionId)>,
    ) -> impl Future<Output = Result<Page<Session, (UnixMillis, SessionId)>, StoreError>> + Send;

    /// Moves the ends of sliding sessions, up to [`MAX_USED`] of them: each was validated at its moment.
    fn slide_sessions(
        &self,
        call: Call,
        uses: &[(SessionId, UnixMillis)],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Deletes up to `limit` sessions that were over before a moment. How many it deleted.
    fn sweep_sessions(
        &self,
        call: Call,
        before: UnixMillis,
        limit: usize,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

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

/// The most ids in one [`Store::lookup_keys`] or [`Store::lookup_sessions`].
pub const MAX_LOOKUP: usize = 64;
/// The most uses in one [`Store::note_uses`] or [`Store::slide_sessions`].
pub const MAX_USED: usize = 500;
