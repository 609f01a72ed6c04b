//! The SQL statements: a [`Store`] over any [`Engine`].
//!
//! Deletions and shared timestamps use the database's clock, because there is only one: statements take durations,
//! never a replica's time to compare with.

/// The current time by the database's clock, in Unix milliseconds, as the schema's triggers write it.
macro_rules! now {
    () => {
        "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)"
    };
}

mod audit;
mod by_name;
mod changes;
mod deletion;
pub mod identity;
mod import_outcomes;
mod keys;
mod leaks;
mod limit_leases;
mod limits;
mod lookup;
pub mod peppers;
pub mod probe;
mod recently_used;
mod rows;
mod sessions;
mod tenants;
mod transaction;
mod unreadable;
mod update;
mod usage;
mod write;

use std::{sync::Arc, time::Duration};

use self::peppers::MissingPepper;
pub use self::unreadable::{RecordTable, UnreadableRecords};
use super::engine::{Engine, Row, SqlValue};
use crate::domain::{
    audit::{AuditCursor, AuditEvent, AuditFilter},
    clock::UnixMillis,
    id::{KeyId, TenantId},
    identity::DatabaseIdentity,
    key::{
        ApiKey, ImportOutcome, KeyHash, KeyPrefixCursor, KeyRecord, KeyToImport, KeyUpdate, NewKey, Peppers,
        Rotation, RotationOutcome, StoredKey,
    },
    page::{Page, PageRequest},
    session::{NewSession, Session, SessionId, SessionOpener, SessionRecord, StoredBinding, SweptSessions},
    store::{
        Call, Change, Committed, KnownTenants, LookupResult, RecentlyUsedCursor, RecentlyUsedKeys, Store,
        StoreError, UpdateConditions,
    },
    tenant::{
        CreatedTenant, DeletedRows, DeletionState, NewTenant, Tenant, TenantDeletion, TenantStatus,
        TenantUpdate,
    },
    text::{PrefixHint, Reason},
};

/// A duration in milliseconds, as statements take it.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A store that runs SQL. Cheap to clone if the engine is.
#[derive(Clone, Debug)]
pub struct SqlStore<E> {
    engine: E,
    peppers: Arc<Peppers>,
    missing_pepper: Arc<MissingPepper>,
    unreadable_records: Arc<UnreadableRecords>,
}

impl<E: Engine> SqlStore<E> {
    /// Creates a store on `engine`; keys are stored and found under digests made with `peppers`.
    pub fn new(engine: E, peppers: Arc<Peppers>) -> Self {
        Self { engine, peppers, missing_pepper: Arc::default(), unreadable_records: Arc::default() }
    }

    /// Counts of unreadable records.
    pub fn unreadable_records(&self) -> &Arc<UnreadableRecords> {
        &self.unreadable_records
    }

    /// The pepper that this replica lacks, if any: clones share it.
    #[must_use]
    pub fn missing_pepper(&self) -> &Arc<MissingPepper> {
        &self.missing_pepper
    }

    /// Checks whether live keys are stored under a pepper that this replica lacks.
    ///
    /// # Errors
    /// When the database gives no complete response.
    pub async fn check_peppers(&self, call: Call) -> Result<(), StoreError> {
        let missing = peppers::find_missing(&self.engine, &self.peppers, call).await?;
        self.missing_pepper.update(missing.as_deref(), &self.peppers);
        Ok(())
    }
}

impl<E: Engine> Store for SqlStore<E> {
    async fn lookup_keys(
        &self,
        call: Call,
        hashes: &[KeyHash],
    ) -> Result<LookupResult<KeyRecord>, StoreError> {
        lookup::run(
            &self.engine,
            &self.peppers,
            (&self.missing_pepper, &self.unreadable_records),
            call,
            hashes,
        )
        .await
    }

    async fn recently_used_keys(
        &self,
        call: Call,
        after: Option<RecentlyUsedCursor>,
        limit: usize,
        tenants: &mut KnownTenants,
    ) -> Result<RecentlyUsedKeys, StoreError> {
        recently_used::list(&self.engine, &self.unreadable_records, call, (after, limit), tenants).await
    }

    async fn record_last_used(&self, call: Call, uses: &[(KeyId, Duration)]) -> Result<(), StoreError> {
        recently_used::record_last_used(&self.engine, call, uses).await
    }

    async fn lookup_sessions(
        &self,
        call: Call,
        ids: &[SessionId],
    ) -> Result<LookupResult<SessionRecord>, StoreError> {
        sessions::lookup(&self.engine, &self.unreadable_records, call, ids).await
    }

    async fn bind_session(
        &self,
        call: Call,
        new: &NewSession,
    ) -> Result<Committed<(StoredBinding, Option<SessionRecord>)>, StoreError> {
        sessions::bind(&self.engine, &self.unreadable_records, call, new).await
    }

    async fn unbind_session(
        &self,
        call: Call,
        id: &SessionId,
        tenant: &TenantId,
        reason: Option<(&Reason, &Change)>,
    ) -> Result<Committed<bool>, StoreError> {
        sessions::unbind(&self.engine, call, id, tenant, reason).await
    }

    async fn list_sessions(
        &self,
        call: Call,
        tenant: &TenantId,
        page: &PageRequest<(UnixMillis, SessionId)>,
    ) -> Result<Page<Session, (UnixMillis, SessionId)>, StoreError> {
        sessions::list(&self.engine, &self.unreadable_records, call, tenant, page).await
    }

    async fn extend_sessions(&self, call: Call, uses: &[(SessionId, Duration)]) -> Result<(), StoreError> {
        sessions::extend(&self.engine, call, uses).await
    }

    async fn sweep_expired_sessions(
        &self,
        call: Call,
        over_for: Duration,
        limit: usize,
    ) -> Result<u64, StoreError> {
        sessions::sweep_expired(&self.engine, call, over_for, limit).await
    }

    async fn sweep_orphaned_sessions(
        &self,
        call: Call,
        after: Option<&SessionOpener>,
        over_for: Duration,
        limit: usize,
    ) -> Result<SweptSessions, StoreError> {
        sessions::sweep_orphaned(&self.engine, call, after, over_for, limit).await
    }

    async fn create_tenant(
        &self,
        call: Call,
        tenant: &NewTenant,
        change: &Change,
    ) -> Result<Committed<CreatedTenant>, StoreError> {
        tenants::create(&self.engine, call, tenant, change).await
    }

    async fn update_tenant(
        &self,
        call: Call,
        id: &TenantId,
        update: &TenantUpdate,
        conditions: &UpdateConditions,
        change: &Change,
    ) -> Result<Committed<Option<Tenant>>, StoreError> {
        update::tenant(&self.engine, call, id, update, conditions, change).await
    }

    async fn get_tenant(&self, call: Call, id: &TenantId) -> Result<Option<Tenant>, StoreError> {
        tenants::get(&self.engine, &self.unreadable_records, call, id).await
    }

    async fn list_tenants(
        &self,
        call: Call,
        page: &PageRequest<TenantId>,
    ) -> Result<Page<Tenant, TenantId>, StoreError> {
        tenants::list(&self.engine, &self.unreadable_records, call, page).await
    }

    async fn set_tenant_status(
        &self,
        call: Call,
        id: &TenantId,
        status: TenantStatus,
        reason: Option<&Reason>,
        change: &Change,
    ) -> Result<Committed<Option<Tenant>>, StoreError> {
        tenants::set_status(&self.engine, call, id, status, reason, change).await
    }

    async fn delete_tenant_step(
        &self,
        call: Call,
        deletion: &TenantDeletion,
        limit: usize,
        change: &Change,
    ) -> Result<Committed<(DeletionState, DeletedRows)>, StoreError> {
        deletion::step(&self.engine, call, deletion, limit, change).await
    }

    async fn insert_key(
        &self,
        call: Call,
        key: &NewKey,
        reason: Option<&Reason>,
        change: &Change,
    ) -> Result<Committed<Option<(ApiKey, KeyRecord)>>, StoreError> {
        write::insert((&self.engine, &self.peppers, &self.unreadable_records), call, key, reason, change)
            .await
    }

    async fn import_keys(
        &self,
        call: Call,
        keys: &[KeyToImport],
        change: &Change,
    ) -> Result<Committed<Vec<ImportOutcome>>, StoreError> {
        write::import(&self.engine, &self.peppers, &self.unreadable_records, call, keys, change).await
    }

    async fn rotate_key(
        &self,
        call: Call,
        rotation: &Rotation,
        change: &Change,
    ) -> Result<Committed<RotationOutcome>, StoreError> {
        write::rotate(&self.engine, &self.peppers, &self.unreadable_records, call, rotation, change).await
    }

    async fn revoke_key(
        &self,
        call: Call,
        id: &KeyId,
        reason: &Reason,
        change: &Change,
    ) -> Result<Committed<Option<ApiKey>>, StoreError> {
        write::revoke(&self.engine, call, id, reason, change).await
    }

    async fn update_key(
        &self,
        call: Call,
        id: &KeyId,
        update: &KeyUpdate,
        conditions: &UpdateConditions,
        change: &Change,
    ) -> Result<Committed<Option<ApiKey>>, StoreError> {
        update::key(&self.engine, call, id, update, conditions, change).await
    }

    async fn list_keys(
        &self,
        call: Call,
        tenant: &TenantId,
        page: &PageRequest<KeyId>,
        live_at: Option<UnixMillis>,
    ) -> Result<Page<ApiKey, KeyId>, StoreError> {
        keys::list(&self.engine, &self.unreadable_records, call, tenant, page, live_at).await
    }

    async fn find_keys(
        &self,
        call: Call,
        what: (&PrefixHint, Option<&TenantId>),
        page: &PageRequest<KeyPrefixCursor>,
        live_at: Option<UnixMillis>,
    ) -> Result<Page<ApiKey, KeyPrefixCursor>, StoreError> {
        keys::find(&self.engine, &self.unreadable_records, call, what, page, live_at).await
    }

    async fn get_key(&self, call: Call, id: &KeyId) -> Result<Option<StoredKey>, StoreError> {
        keys::get(&self.engine, &self.unreadable_records, call, id).await
    }

    async fn accept_database(
        &self,
        call: Call,
        known: &DatabaseIdentity,
        reason: &Reason,
        change: &Change,
    ) -> Result<DatabaseIdentity, StoreError> {
        identity::accept(&self.engine, call, known, reason, change).await
    }

    async fn read_primary_heartbeat(&self, call: Call) -> Result<(i64, Duration), StoreError> {
        identity::read_primary_heartbeat(&self.engine, call).await
    }

    async fn write_heartbeat(&self, call: Call, interval: Duration) -> Result<i64, StoreError> {
        identity::write_heartbeat(&self.engine, call, interval).await
    }

    async fn list_audit(
        &self,
        call: Call,
        filter: &AuditFilter,
        page: &PageRequest<AuditCursor>,
    ) -> Result<Page<AuditEvent, AuditCursor>, StoreError> {
        audit::list(&self.engine, &self.unreadable_records, call, filter, page).await
    }
}
