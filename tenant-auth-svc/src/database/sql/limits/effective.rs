//! The limits that apply to a tenant or a key.

use super::record::{LIMIT_COLUMNS, read_limit};
use crate::{
    database::{
        engine::{Engine, Row, Statement},
        sql::{
            RecordTable, UnreadableRecords,
            keys::qualified,
            rows::{listing_rows, listing_sql},
        },
    },
    domain::{
        id::{KeyId, TenantId},
        limit::{Limit, store::LimitHolder},
        store::{Call, StoreError},
        text::Plan,
    },
};

/// The tenant, its plan and the key of a holder with the id `?1`; the key is empty for a tenant.
pub(super) fn holder_sql(holder: &LimitHolder) -> &'static str {
    match holder {
        LimitHolder::Tenant(_) => "SELECT id AS tenant_id, plan, '' AS key_id FROM tenants WHERE id = ?1",
        LimitHolder::Key(_) => {
            "SELECT api_keys.tenant_id, tenants.plan, api_keys.id AS key_id FROM api_keys \
             LEFT JOIN tenants ON tenants.id = api_keys.tenant_id WHERE api_keys.id = ?1"
        }
    }
}

/// Returns the common table expressions `holder` and `effective`: of the limits with the same name that of the key, otherwise
/// that of the tenant, otherwise that of the plan. `condition` restricts them further; it may name columns of `limits`.
pub(super) fn effective_sql(holder: &str, condition: &str) -> String {
    let limits = qualified("limits", LIMIT_COLUMNS);
    let candidates = [("key", "key_id"), ("tenant", "tenant_id"), ("plan", "plan")].into_iter().enumerate();
    let candidates = candidates.map(|(rank, (scope, id))| {
        format!(
            "SELECT {rank} AS rank, {limits} FROM holder \
             CROSS JOIN limits ON limits.scope = '{scope}' AND limits.subject = holder.{id} AND {condition}"
        )
    });
    // With min(), SQLite takes the other columns from the row with the minimum.
    format!(
        "WITH holder AS ({holder}), effective AS (SELECT min(rank), {LIMIT_COLUMNS} FROM ({}) GROUP BY name)",
        candidates.collect::<Vec<_>>().join(" UNION ALL ")
    )
}

/// Reads limits. An unreadable one is an error: the one that it replaces does not apply.
pub(super) async fn read<E: Engine>(
    engine: &E,
    unreadable: &UnreadableRecords,
    call: Call,
    (tenant, plan, key): (&TenantId, &Plan, &KeyId),
) -> Result<Vec<Limit>, StoreError> {
    let effective = effective_sql("SELECT ?1 AS tenant_id, ?2 AS plan, ?3 AS key_id", "TRUE");
    let statement =
        Statement::new(format!("{effective} {}", listing_sql(LIMIT_COLUMNS, "FROM effective ORDER BY name")));
    let statement = statement.bind(tenant.as_str()).bind(plan.as_str()).bind(key.as_str());
    let rows = engine.query(call, statement).await?;
    let read = |row: &Row| Ok(unreadable.check(RecordTable::Limits, (row, 1), read_limit(row, 0))?);
    listing_rows(&rows)?.iter().map(read).collect()
}
