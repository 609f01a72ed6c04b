//! Deletes a suspended tenant, in steps.
//!
//! One step is one transaction: a page of sessions; a page of keys once no session is left; a page of usage; and the tenant
//! with its audit entry once nothing else is left. Every statement requires that the tenant is suspended, so a resumed tenant
//! loses nothing more. A second run after a lost response deletes the next page.

use super::{
    Engine,
    lookup::parse_status,
    transaction::{commit, last_rows},
};
use crate::{
    database::engine::{Row, SqlValue, Statement},
    domain::{
        audit::AuditAction,
        store::{Call, Change, Committed, FailureKind, StoreError},
        tenant::{DeletedRows, DeletionState, TenantDeletion, TenantStatus},
    },
};

const IS_SUSPENDED: &str = "EXISTS (SELECT 1 FROM tenants WHERE id = ?1 AND status = 'suspended')";
const HAS_SESSIONS: &str = "EXISTS (SELECT 1 FROM session_bindings WHERE tenant_id = ?1)";
const HAS_KEYS: &str = "EXISTS (SELECT 1 FROM api_keys WHERE tenant_id = ?1)";
const HAS_EVENTS: &str = "EXISTS (SELECT 1 FROM usage_events WHERE tenant_id = ?1)";
const HAS_TOTALS: &str = "EXISTS (SELECT 1 FROM usage_totals WHERE tenant_id = ?1)";

/// Number of statements that delete a page, each followed by one that counts.
const PAGES: usize = 4;

pub(super) async fn step<E: Engine>(
    engine: &E,
    call: Call,
    deletion: &TenantDeletion,
    limit: usize,
    change: &Change,
) -> Result<Committed<(DeletionState, DeletedRows)>, StoreError> {
    let id = deletion.id.as_str();
    // Totals go after the events that they were made of: the repair of totals would write them again.
    let pages: [(&str, &str, String); PAGES] = [
        ("session_bindings", "session_id", "TRUE".to_owned()),
        ("api_keys", "id", format!("NOT {HAS_SESSIONS}")),
        ("usage_events", "tenant_id, hour, metric, request", with_usage(deletion, "TRUE")),
        ("usage_totals", "tenant_id, hour, metric", with_usage(deletion, &format!("NOT {HAS_EVENTS}"))),
    ];
    let limit = SqlValue::Integer(i64::try_from(limit).unwrap_or(i64::MAX));
    let mut statements = Vec::new();
    for (table, key, condition) in pages {
        let delete = format!(
            "DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE tenant_id = ?1 LIMIT ?2) \
             AND {IS_SUSPENDED} AND {condition}"
        );
        statements.push(Statement::new(delete).bind(id).bind(limit.clone()));
        statements.push(Statement::new("SELECT changes()"));
    }
    let has_usage = with_usage(deletion, &format!("({HAS_EVENTS} OR {HAS_TOTALS})"));
    let is_last = format!(
        "id = ?1 AND status = 'suspended' AND NOT {HAS_SESSIONS} AND NOT {HAS_KEYS} AND NOT {has_usage}"
    );
    let detail = serde_json::json!({
        "reason": deletion.reason.as_str(),
        "usage": if deletion.with_usage { "deleted" } else { "kept" },
    });
    let audit = format!(
        "INSERT INTO audit_log (at, caller, action, target, tenant_id, request_id, detail) \
         SELECT ?2, ?3, ?4, id, id, ?5, ?6 FROM tenants WHERE {is_last}"
    );
    statements.push(
        Statement::new(audit)
            .bind(id)
            .bind(change.at.0)
            .bind(change.actor.caller.as_str())
            .bind(AuditAction::TenantDelete.as_str())
            .bind(change.actor.request_id.as_str())
            .bind(detail.to_string()),
    );
    statements.push(Statement::new(format!("DELETE FROM tenants WHERE {is_last}")).bind(id));
    statements.push(
        Statement::new(
            "DELETE FROM session_counts WHERE tenant_id = ?1 AND NOT EXISTS (SELECT 1 FROM tenants WHERE id = ?1)",
        )
        .bind(id),
    );
    statements.push(
        Statement::new(
            "SELECT (SELECT status FROM tenants WHERE id = ?1), \
                    EXISTS (SELECT 1 FROM audit_log WHERE target = ?1 AND action = ?2)",
        )
        .bind(id)
        .bind(AuditAction::TenantDelete.as_str()),
    );
    let Committed { outcome: results, revision } = commit(engine, call, statements).await?;
    let deleted = read_counts(&results)?;
    let state = read_state(&last_rows(results)?)?;
    Ok(Committed { outcome: (state, deleted), revision })
}

/// Returns the condition, or one that is never true if the usage is kept.
fn with_usage(deletion: &TenantDeletion, condition: &str) -> String {
    if deletion.with_usage { condition.to_owned() } else { "FALSE".to_owned() }
}

fn read_counts(results: &[Vec<Row>]) -> Result<DeletedRows, StoreError> {
    let mut counts = [0; PAGES];
    for (count, page) in counts.iter_mut().zip(results.chunks(2)) {
        let row = page.get(1).and_then(|rows| rows.first()).ok_or_else(incomplete_response)?;
        *count = u64::try_from(row.integer(0)?).unwrap_or_default();
    }
    let [sessions, keys, events, totals] = counts;
    Ok(DeletedRows { sessions, keys, usage: events + totals })
}

fn read_state(rows: &[Row]) -> Result<DeletionState, StoreError> {
    let row = rows.first().ok_or_else(incomplete_response)?;
    let status = row.optional_text(0)?.map(parse_status).transpose()?;
    Ok(match status {
        Some(TenantStatus::Suspended) => DeletionState::Incomplete,
        Some(TenantStatus::Active) => DeletionState::Active,
        None if row.integer(1)? == 1 => DeletionState::Deleted,
        None => DeletionState::NeverExisted,
    })
}

fn incomplete_response() -> StoreError {
    StoreError::new(FailureKind::InvalidResponse, "a deletion returned too few results")
}
