//! Tenants.

use super::{
    Engine, RecordTable, Row, UnreadableRecords,
    audit::audited,
    commit, last_rows,
    lookup::status_of,
    overread,
    rows::{Listed, listing, only},
    unreadable,
};
use crate::{
    database::engine::Statement,
    domain::{
        audit::AuditAction,
        clock::UnixMillis,
        id::TenantId,
        page::{Page, PageRequest},
        store::{Call, Change, Committed, FailureKind, StoreError},
        tenant::{NewTenant, Tenant, TenantStatus},
        text::{Plan, Reason, TenantName},
    },
};

pub(super) const COLUMNS: &str = "id, name, plan, status, suspend_reason, created_at, updated_at";

pub(super) async fn create<E: Engine>(
    engine: &E,
    call: Call,
    tenant: &NewTenant,
    change: &Change,
) -> Result<Tenant, StoreError> {
    let id = &tenant.id;
    let insert = Statement::new(
        "INSERT INTO tenants (id, name, plan, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?4) \
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(id.as_str())
    .bind(tenant.name.as_str())
    .bind(tenant.plan.as_str())
    .bind(change.at.0);
    let audit = audited(change, AuditAction::TenantCreate, id.as_str(), id.as_str(), "");
    let results = engine.transaction(call, vec![insert, audit, select(id)]).await?;
    tenant_in(&last_rows(results)?)?
        .ok_or_else(|| StoreError::new(FailureKind::Garbled, "the tenant just written is not there"))
}

pub(super) async fn get<E: Engine>(
    engine: &E,
    unreadable: &UnreadableRecords,
    call: Call,
    id: &TenantId,
) -> Result<Option<Tenant>, StoreError> {
    let rows = engine.query(call, select(id)).await?;
    let Some(row) = only(&rows)? else { return Ok(None) };
    Ok(Some(unreadable.check(RecordTable::Tenants, (row, 0), tenant(row))?))
}

pub(super) async fn list<E: Engine>(
    engine: &E,
    unreadable: &UnreadableRecords,
    call: Call,
    page: &PageRequest<TenantId>,
) -> Result<Page<Tenant, TenantId>, StoreError> {
    let sql = listing(COLUMNS, "FROM tenants WHERE id > ?1 ORDER BY id LIMIT ?2", "id");
    let statement =
        |after: &String| Statement::new(sql.as_str()).bind(after.as_str()).bind(overread(page.size));
    let tenants = Listed {
        table: RecordTable::Tenants,
        named_by: 0,
        position: |row| row.text(0).map(str::to_owned),
        record: tenant,
        cursor: |tenant| tenant.id.clone(),
    };
    let after = page.after.as_ref().map_or("", TenantId::as_str).to_owned();
    tenants.page((engine, unreadable, call), page.size, after, statement).await
}

pub(super) async fn set_status<E: Engine>(
    engine: &E,
    call: Call,
    id: &TenantId,
    status: TenantStatus,
    reason: Option<&Reason>,
    change: &Change,
) -> Result<Committed<Option<Tenant>>, StoreError> {
    let reason = reason.map_or("", Reason::as_str);
    let update = Statement::new(
        "UPDATE tenants SET status = ?2, suspend_reason = ?3, updated_at = ?4 \
         WHERE id = ?1 AND status <> ?2",
    )
    .bind(id.as_str())
    .bind(status.as_str())
    .bind(reason)
    .bind(change.at.0);
    let action = match status {
        TenantStatus::Active => AuditAction::TenantResume,
        TenantStatus::Suspended => AuditAction::TenantSuspend,
    };
    let audit = audited(change, action, id.as_str(), id.as_str(), reason);
    let Committed { outcome: results, revision } =
        commit(engine, call, vec![update, audit, select(id)]).await?;
    Ok(Committed { outcome: tenant_in(&last_rows(results)?)?, revision })
}

fn select(id: &TenantId) -> Statement {
    Statement::new(format!("SELECT {COLUMNS} FROM (SELECT 1) LEFT JOIN tenants ON tenants.id = ?1"))
        .bind(id.as_str())
}

fn tenant_in(rows: &[Row]) -> Result<Option<Tenant>, StoreError> {
    only(rows)?.map(tenant).transpose()
}

pub(super) fn tenant(row: &Row) -> Result<Tenant, StoreError> {
    Ok(Tenant {
        id: TenantId::parse(row.text(0)?).map_err(|_| unreadable("tenant id"))?,
        name: TenantName::stored(row.text(1)?),
        plan: Plan::stored(row.text(2)?),
        status: status_of(row.text(3)?)?,
        suspend_reason: row.text(4)?.to_owned(),
        created_at: UnixMillis(row.integer(5)?),
        updated_at: UnixMillis(row.integer(6)?),
    })
}
