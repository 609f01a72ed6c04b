//! The statements: a [`Store`] over any [`Engine`].

mod audit;
mod keys;
mod lookup;
pub mod peppers;
mod rows;
mod sessions;
mod tenants;
mod usage;
mod used;
mod write;

use std::sync::Arc;

use self::peppers::PepperGap;
use super::engine::{Engine, Row};
use crate::domain::{
    audit::{AuditEntry, AuditEvent, AuditFilter, AuditStore},
    clock::UnixMillis,
    id::{KeyId, TenantId},
    key::{ApiKey, ImportOutcome, KeyHash, KeyRecord, KeyToImport, NewKey, Peppers, Rotated, Rotation},
    page::{Page, PageRequest},
    session::{Binding, NewSession, Session, SessionId, SessionRecord},
    store::{Call, Change, FailureKind, Found, InUse, Store, StoreError},
    tenant::{NewTenant, Tenant, TenantStatus},
    text::Reason,
    usage::{Claim, Difference, Hour, Kept, UsageCursor, UsageQuery, UsageStore, UsageSum},
};

/// A store that writes SQL. Cheap to clone when the engine is.
#[derive(Clone, Debug)]
pub struct SqlStore<E> {
    engine: E,
    peppers: Arc<Peppers>,
    gap: Arc<PepperGap>,
}

impl<E: Engine> SqlStore<E> {
    /// Writes SQL for `engine`; keys are stored and found under digests made with `peppers`.
    pub fn new(engine: E, peppers: Arc<Peppers>) -> Self {
        Self { engine, peppers, gap: Arc::default() }
    }

    /// What is known about peppers that this replica lacks: clones share it.
    #[must_use]
    pub fn pepper_gap(&self) -> &Arc<PepperGap> {
        &self.gap
    }

    /// Looks whether live keys are stored under a pepper that this replica lacks.
    ///
    /// # Errors
    /// When the database gives no complete answer.
    pub async fn check_peppers(&self, call: Call) -> Result<(), StoreError> {
        let missing = peppers::ask(&self.engine, &self.peppers, call).await?;
        self.gap.note(missing.as_deref(), &self.peppers);
        Ok(())
    }
}

impl<E: Engine> Store for SqlStore<E> {
    async fn lookup_keys(&self, call: Call, hashes: &[KeyHash]) -> Result<Found<KeyRecord>, StoreError> {
        lookup::run(&self.engine, &self.peppers, &self.gap, call, hashes).await
    }

    async fn keys_in_use(
        &self,
        call: Call,
        after: Option<(UnixMillis, KeyId)>,
        limit: usize,
    ) -> Result<InUse, StoreError> {
        used::list(&self.engine, call, after, limit).await
    }

    async fn note_uses(&self, call: Call, uses: &[(KeyId, UnixMillis)]) -> Result<(), StoreError> {
        used::note(&self.engine, call, uses).await
    }

    async fn lookup_sessions(
        &self,
        call: Call,
        ids: &[SessionId],
    ) -> Result<Found<SessionRecord>, StoreError> {
        sessions::lookup(&self.engine, call, ids).await
    }

    async fn bind_session(&self, call: Call, new: &NewSession) -> Result<Binding, StoreError> {
        sessions::bind(&self.engine, call, new).await
    }

    async fn unbind_session(
        &self,
        call: Call,
        id: &SessionId,
        tenant: &TenantId,
        now: UnixMillis,
    ) -> Result<bool, StoreError> {
        sessions::unbind(&self.engine, call, id, tenant, now).await
    }

    async fn list_sessions(
        &self,
        call: Call,
        tenant: &TenantId,
        now: UnixMillis,
        page: &PageRequest<(UnixMillis, SessionId)>,
    ) -> Result<Page<Session, (UnixMillis, SessionId)>, StoreError> {
        sessions::list(&self.engine, call, tenant, now, page).await
    }

    async fn slide_sessions(&self, call: Call, uses: &[(SessionId, UnixMillis)]) -> Result<(), StoreError> {
        sessions::slide(&self.engine, call, uses).await
    }

    async fn sweep_sessions(&self, call: Call, before: UnixMillis, limit: usize) -> Result<u64, StoreError> {
        sessions::sweep(&self.engine, call, before, limit).await
    }

    async fn create_tenant(
        &self,
        call: Call,
        tenant: &NewTenant,
        change: &Change,
    ) -> Result<Tenant, StoreError> {
        tenants::create(&self.engine, call, tenant, change).await
    }

    async fn get_tenant(&self, call: Call, id: &TenantId) -> Result<Option<Tenant>, StoreError> {
        tenants::get(&self.engine, call, id).await
    }

    async fn list_tenants(
        &self,
        call: Call,
        page: &PageRequest<TenantId>,
    ) -> Result<Page<Tenant, TenantId>, StoreError> {
        tenants::list(&self.engine, call, page).await
    }

    async fn set_tenant_status(
        &self,
        call: Call,
        id: &TenantId,
        status: TenantStatus,
        reason: Option<&Reason>,
        change: &Change,
    ) -> Result<Option<Tenant>, StoreError> {
        tenants::set_status(&self.engine, call, id, status, reason, change).await
    }

    async fn insert_key(
        &self,
        call: Call,
        key: &NewKey,
        change: &Change,
    ) -> Result<Option<ApiKey>, StoreError> {
        write::insert(&self.engine, &self.peppers, call, key, change).await
    }

    async fn import_keys(
        &self,
        call: Call,
        keys: &[KeyToImport],
        change: &Change,
    ) -> Result<Vec<ImportOutcome>, StoreError> {
        write::import(&self.engine, &self.peppers, call, keys, change).await
    }

    async fn rotate_key(
        &self,
        call: Call,
        rotation: &Rotation,
        change: &Change,
    ) -> Result<Rotated, StoreError> {
        write::rotate(&self.engine, &self.peppers, call, rotation, change).await
    }

    async fn revoke_key(
        &self,
        call: Call,
        id: &KeyId,
        reason: &Reason,
        change: &Change,
    ) -> Result<Option<ApiKey>, StoreError> {
        write::revoke(&self.engine, call, id, reason, change).await
    }

    async fn list_keys(
        &self,
        call: Call,
        tenant: &TenantId,
        page: &PageRequest<KeyId>,
        live_at: Option<UnixMillis>,
    ) -> Result<Page<ApiKey, KeyId>, StoreError> {
        keys::list(&self.engine, call, tenant, page, live_at).await
    }

    async fn list_audit(
        &self,
        call: Call,
        filter: &AuditFilter,
        page: &PageRequest<i64>,
    ) -> Result<Page<AuditEvent, i64>, StoreError> {
        audit::list(&self.engine, call, filter, page).await
    }
}

impl<E: Engine> AuditStore for SqlStore<E> {
    async fn write_audit(&self, call: Call, entries: &[Arc<AuditEntry>]) -> Result<(), StoreError> {
        audit::write(&self.engine, call, entries).await
    }
}

impl<E: Engine> UsageStore for SqlStore<E> {
    async fn record_usage(&self, call: Call, claims: &[Claim]) -> Result<Vec<Kept>, StoreError> {
        usage::record(&self.engine, call, claims).await
    }

    async fn sum_usage(
        &self,
        call: Call,
        query: &UsageQuery,
    ) -> Result<Option<Page<UsageSum, UsageCursor>>, StoreError> {
        usage::sum(&self.engine, call, query).await
    }

    async fn compare_usage(
        &self,
        call: Call,
        tenant: &TenantId,
        hours: (Hour, Hour),
        limit: usize,
    ) -> Result<Vec<Difference>, StoreError> {
        usage::compare(&self.engine, call, tenant, hours, limit).await
    }

    async fn sweep_usage(&self, call: Call, before: UnixMillis, limit: usize) -> Result<usize, StoreError> {
        usage::sweep(&self.engine, call, before, limit).await
    }
}

/// One more than the page, to learn whether there is a next one.
fn overread(size: crate::domain::page::PageSize) -> i64 {
    i64::try_from(size.get()).unwrap_or(i64::MAX).saturating_add(1)
}

/// A stored value that the types refuse: somebody wrote it past them, or the answer is damaged.
fn unreadable(what: &str, why: impl std::fmt::Display) -> StoreError {
    StoreError::new(FailureKind::Garbled, format!("a stored {what} cannot be read: {why}"))
}

/// Takes the rows of the last statement of a transaction.
fn last_rows(results: Vec<Vec<Row>>) -> Result<Vec<Row>, StoreError> {
    results
        .into_iter()
        .next_back()
        .ok_or_else(|| StoreError::new(FailureKind::Garbled, "a transaction gave no result at all"))
}
