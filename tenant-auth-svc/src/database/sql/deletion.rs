//! Deletes a suspended tenant, in steps.
//!
//! One step is one transaction. The first one marks the tenant, with the audit entry: from then on it cannot be resumed, and
//! nothing can be added to it. Each step deletes a page of sessions; a page of keys once no session is left; a page of usage
//! events, then of totals, which are kept elsewhere or not; and the tenant once nothing else is left. A second run after a
//! lost response continues with the next page.

use super::{
    Engine,
    audit::audit_statement,
    lookup::parse_status,
    transaction::{commit, last_rows},
};
use crate::{
    database::engine::{Row, Statement},
    domain::{
        audit::AuditAction,
        store::{Call, Change, Committed, FailureKind, StoreError},
        tenant::{DeletedRows, DeletionState, TenantDeletion, TenantStatus},
    },
};

const IS_MARKED: &str = "EXISTS (SELECT 1 FROM tenants WHERE id = ?1 AND deletion_started_at IS NOT NULL)";
/// The usage of a deleted tenant may be deleted later.
const IS_MARKED_OR_DELETED: &str =
    "NOT EXISTS (SELECT 1 FROM tenants WHERE id = ?1 AND deletion_started_at IS NULL)";

/// The totals of a page, in the order in which they are moved and deleted.
const TOTALS_PAGE: &str = "FROM usage_totals WHERE tenant_id = ?1 ORDER BY hour, metric LIMIT ?2";

/// A statement of a step, whose first parameters are the tenant and the size of a page.
struct PageStatement {
    sql: String,
    /// Adds the number of rows that it deletes.
    count: Option<fn(&mut DeletedRows, u64)>,
}

fn has_rows(table: &str) -> String {
    format!("EXISTS (SELECT 1 FROM {table} WHERE tenant_id = ?1)")
}

/// Deletes a page of a table, if a condition holds.
fn delete_page(table: &str, key: &str, condition: &str) -> String {
    format!(
        "DELETE FROM {table} WHERE ({key}) IN \
         (SELECT {key} FROM {table} WHERE tenant_id = ?1 LIMIT ?2) AND {condition}"
    )
}

fn page_statements(deletion: &TenantDeletion) -> Vec<PageStatement> {
    let counting = |sql, count| PageStatement { sql, count: Some(count) };
    let (no_session, no_event) =
        (format!("NOT {}", has_rows("session_bindings")), format!("NOT {}", has_rows("usage_events")));
    // Totals go after the events that they were made of. Meanwhile the two differ, so the comparison skips marked tenants.
    let may_move = format!("{IS_MARKED} AND {no_event}");
    let totals = format!(
        "DELETE FROM usage_totals WHERE (tenant_id, hour, metric) IN (SELECT tenant_id, hour, metric {TOTALS_PAGE}) \
         AND {may_move}"
    );
    let mut statements = vec![
        counting(delete_page("session_bindings", "session_id", IS_MARKED), |deleted, count| {
            deleted.sessions += count;
        }),
        counting(
            delete_page("api_keys", "id", &format!("{IS_MARKED} AND {no_session}")),
            |deleted, count| {
                deleted.keys += count;
            },
        ),
        PageStatement {
            sql: delete_page("usage_events", "tenant_id, hour, metric, request", IS_MARKED),
            count: deletion.with_usage.then_some(|deleted: &mut DeletedRows, count| deleted.usage += count),
        },
    ];
    if deletion.with_usage {
        statements.push(counting(totals, |deleted, count| deleted.usage += count));
        let kept = delete_page("deleted_usage", "tenant_id, hour, metric", IS_MARKED_OR_DELETED);
        statements.push(counting(kept, |deleted, count| deleted.usage += count));
    } else {
        let keep = format!(
            "INSERT INTO deleted_usage (tenant_id, hour, metric, quantity) \
             SELECT tenant_id, hour, metric, quantity FROM (SELECT tenant_id, hour, metric, quantity {TOTALS_PAGE}) \
             WHERE {may_move} \
             ON CONFLICT (tenant_id, hour, metric) DO UPDATE SET quantity = quantity + excluded.quantity"
        );
        statements.push(PageStatement { sql: keep, count: None });
        statements.push(PageStatement { sql: totals, count: None });
    }
    statements
}

pub(super) async fn step<E: Engine>(
    engine: &E,
    call: Call,
    deletion: &TenantDeletion,
    limit: usize,
    change: &Change,
) -> Result<Committed<(DeletionState, DeletedRows)>, StoreError> {
    let id = deletion.id.as_str();
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let pages = page_statements(deletion);
    let mut statements = Vec::new();
    for page in &pages {
        statements.push(Statement::new(page.sql.as_str()).bind(id).bind(limit));
        statements.push(Statement::new("SELECT changes()"));
    }
    let first = mark_statements(deletion, change);
    let before = first.len();
    let statements = first.into_iter().chain(statements).chain(last_statements(deletion)).collect();
    let Committed { outcome: results, revision } = commit(engine, call, statements).await?;
    let mut deleted = DeletedRows::default();
    for (page, results) in pages.iter().zip(results.get(before..).unwrap_or_default().chunks(2)) {
        let row = results.get(1).and_then(|rows| rows.first()).ok_or_else(incomplete_response)?;
        if let Some(count) = page.count {
            count(&mut deleted, u64::try_from(row.integer(0)?).unwrap_or_default());
        }
    }
    let state = read_state(deletion, &last_rows(results)?)?;
    Ok(Committed { outcome: (state, deleted), revision })
}

/// Marks a suspended tenant, and records that; and records that kept usage of a deleted tenant is deleted.
fn mark_statements(deletion: &TenantDeletion, change: &Change) -> Vec<Statement> {
    let id = deletion.id.as_str();
    let mark = Statement::new(
        "UPDATE tenants SET deletion_started_at = ?2, updated_at = ?2 \
         WHERE id = ?1 AND status = 'suspended' AND deletion_started_at IS NULL",
    );
    let detail = serde_json::json!({
        "reason": deletion.reason.as_str(),
        "usage": if deletion.with_usage { "deleted" } else { "kept" },
    })
    .to_string();
    let mut statements = vec![
        mark.bind(id).bind(change.at.0),
        audit_statement(change, AuditAction::TenantDelete, id, id, &detail),
    ];
    if deletion.with_usage {
        // Once for this deletion of kept usage: the next step finds the entry, unless usage was kept since.
        let of_kept_usage = format!(
            "INSERT INTO audit_log (at, caller, action, target, tenant_id, request_id, detail) \
             SELECT ?2, ?3, ?4, ?1, ?1, ?5, ?6 WHERE {} AND NOT EXISTS (SELECT 1 FROM tenants WHERE id = ?1) \
               AND (SELECT detail ->> '$.usage' FROM audit_log WHERE target = ?1 AND action = ?4 ORDER BY at DESC, seq DESC \
                    LIMIT 1) = 'kept'",
            has_rows("deleted_usage")
        );
        statements.push(
            Statement::new(of_kept_usage)
                .bind(id)
                .bind(change.at.0)
                .bind(change.actor.caller.as_str())
                .bind(AuditAction::TenantDelete.as_str())
                .bind(change.actor.request_id.as_str())
                .bind(detail),
        );
    }
    statements
}

/// Returns the statements that delete the tenant itself if nothing else is left, and the one that reads its state.
fn last_statements(deletion: &TenantDeletion) -> [Statement; 3] {
    let id = deletion.id.as_str();
    let left = ["session_bindings", "api_keys", "usage_events", "usage_totals"].map(has_rows).join(" OR ");
    let delete =
        format!("DELETE FROM tenants WHERE id = ?1 AND deletion_started_at IS NOT NULL AND NOT ({left})");
    let forget_count = "DELETE FROM session_counts WHERE tenant_id = ?1 AND NOT EXISTS (SELECT 1 FROM tenants WHERE id = ?1)";
    let state = format!(
        "SELECT (SELECT status FROM tenants WHERE id = ?1), {}, \
                EXISTS (SELECT 1 FROM audit_log WHERE target = ?1 AND action = ?2)",
        has_rows("deleted_usage")
    );
    [
        Statement::new(delete).bind(id),
        Statement::new(forget_count).bind(id),
        Statement::new(state).bind(id).bind(AuditAction::TenantDelete.as_str()),
    ]
}

fn read_state(deletion: &TenantDeletion, rows: &[Row]) -> Result<DeletionState, StoreError> {
    let row = rows.first().ok_or_else(incomplete_response)?;
    let status = row.optional_text(0)?.map(parse_status).transpose()?;
    let (has_kept_usage, was_deleted) = (row.integer(1)? == 1, row.integer(2)? == 1);
    Ok(match status {
        Some(TenantStatus::Suspended) => DeletionState::Incomplete,
        Some(TenantStatus::Active) => DeletionState::Active,
        None if deletion.with_usage && has_kept_usage => DeletionState::Incomplete,
        None if was_deleted => DeletionState::Deleted,
        None => DeletionState::NeverExisted,
    })
}

fn incomplete_response() -> StoreError {
    StoreError::new(FailureKind::InvalidResponse, "a deletion returned too few results")
}
