//! Tenants.

use super::{
    Engine, RecordTable, Row, UnreadableRecords,
    audit::audit_statement,
    lookup::parse_status,
    rows::{ListingReader, Records, listing_sql, single_row, unreadable_value},
    transaction::{commit, last_rows},
};
use crate::{
    database::engine::Statement,
    domain::{
        audit::AuditAction,
        clock::UnixMillis,
        etag::Etag,
        id::TenantId,
        leak::LeakPolicy,
        page::{Page, PageRequest},
        store::{Call, Change, Committed, FailureKind, StoreError},
        tenant::{CreatedTenant, NewTenant, Tenant, TenantStatus},
        text::{Plan, Reason, TenantName},
    },
};

pub(super) const TENANT_COLUMNS: &str = "id, name, plan, status, suspend_reason, created_at, updated_at, version, leak_policy, \
     deletion_started_at";

pub(super) async fn create<E: Engine>(
    engine: &E,
    call: Call,
    tenant: &NewTenant,
    change: &Change,
) -> Result<Committed<CreatedTenant>, StoreError> {
    let id = &tenant.id;
    let insert = Statement::new(
        "INSERT INTO tenants (id, name, plan, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?4) \
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(id.as_str())
    .bind(tenant.name.as_str())
    .bind(tenant.plan.as_str())
    .bind(change.at.0);
    let audit = audit_statement(change, AuditAction::TenantCreate, id.as_str(), id.as_str(), "");
    // By the audit entry: a repeated run must find that the first one created the tenant.
    let by_this_change = Statement::new(
        "SELECT EXISTS (SELECT 1 FROM audit_log WHERE target = ?1 AND action = ?2 AND at = ?3 \
                          AND request_id = ?4 AND caller = ?5)",
    )
    .bind(id.as_str())
    .bind(AuditAction::TenantCreate.as_str())
    .bind(change.at.0)
    .bind(change.actor.request_id.as_str())
    .bind(change.actor.caller.as_str());
    let Committed { outcome: mut results, revision } =
        commit(engine, call, vec![insert, audit, by_this_change, select_tenant(id)]).await?;
    let tenant = single_tenant(&results.pop().unwrap_or_default())?.ok_or_else(|| {
        StoreError::new(FailureKind::InvalidResponse, "the tenant that was just written does not exist")
    })?;
    let is_new = results.pop().unwrap_or_default().first().map(|row| row.integer(0)).transpose()? == Some(1);
    Ok(Committed { outcome: CreatedTenant { tenant, is_new }, revision })
}

pub(super) async fn get<E: Engine>(
    engine: &E,
    unreadable: &UnreadableRecords,
    call: Call,
    id: &TenantId,
) -> Result<Option<Tenant>, StoreError> {
    let rows = engine.query(call, select_tenant(id)).await?;
    let Some(row) = single_row(&rows)? else { return Ok(None) };
    Ok(Some(unreadable.check(RecordTable::Tenants, (row, 0), read_tenant(row))?))
}

pub(super) async fn list<E: Engine>(
    engine: &E,
    unreadable: &UnreadableRecords,
    call: Call,
    page: &PageRequest<TenantId>,
) -> Result<Page<Tenant, TenantId>, StoreError> {
    let sql = listing_sql(TENANT_COLUMNS, "FROM tenants WHERE id > ?1 ORDER BY id LIMIT ?2");
    let statement = |after: &String, limit| Statement::new(sql.as_str()).bind(after.as_str()).bind(limit);
    let tenants = ListingReader {
        table: RecordTable::Tenants,
        id_column: 0,
        records: Records::All,
        read_position: |row| row.text(0).map(str::to_owned),
        read_record: read_tenant,
        cursor_of: |tenant| tenant.id.clone(),
    };
    let after = page.after.as_ref().map_or("", TenantId::as_str).to_owned();
    tenants.read_page((engine, unreadable, call), page.size, after, statement).await
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
         WHERE id = ?1 AND status <> ?2 AND deletion_started_at IS NULL",
    )
    .bind(id.as_str())
    .bind(status.as_str())
    .bind(if status == TenantStatus::Suspended { reason } else { "" })
    .bind(change.at.0);
    let action = match status {
        TenantStatus::Active => AuditAction::TenantResume,
        TenantStatus::Suspended => AuditAction::TenantSuspend,
    };
    let audit = audit_statement(change, action, id.as_str(), id.as_str(), reason);
    let Committed { outcome: results, revision } =
        commit(engine, call, vec![update, audit, select_tenant(id)]).await?;
    Ok(Committed { outcome: single_tenant(&last_rows(results)?)?, revision })
}

pub(super) fn select_tenant(id: &TenantId) -> Statement {
    Statement::new(format!("SELECT {TENANT_COLUMNS} FROM (SELECT 1) LEFT JOIN tenants ON tenants.id = ?1"))
        .bind(id.as_str())
}

pub(super) fn single_tenant(rows: &[Row]) -> Result<Option<Tenant>, StoreError> {
    single_row(rows)?.map(read_tenant).transpose()
}

fn read_leak_policy(stored: &str) -> Result<LeakPolicy, StoreError> {
    LeakPolicy::from_stored(stored).ok_or_else(|| unreadable_value("leak policy"))
}

pub(super) fn read_tenant(row: &Row) -> Result<Tenant, StoreError> {
    Ok(Tenant {
        id: TenantId::parse(row.text(0)?).map_err(|_| unreadable_value("tenant id"))?,
        name: TenantName::stored(row.text(1)?),
        plan: Plan::stored(row.text(2)?),
        status: parse_status(row.text(3)?)?,
        suspend_reason: row.text(4)?.to_owned(),
        created_at: UnixMillis(row.integer(5)?),
        updated_at: UnixMillis(row.integer(6)?),
        etag: Etag::of_version(row.integer(7)?),
        leak_policy: row.optional_text(8)?.map(read_leak_policy).transpose()?,
        deletion_started_at: row.optional_integer(9)?.map(UnixMillis),
    })
}
