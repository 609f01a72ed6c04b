//! The audit log.

use std::sync::Arc;

use super::{
    Engine, RecordTable, UnreadableRecords, overread,
    rows::{Listed, listing},
};
use crate::{
    domain::{
        audit::{AuditAction, AuditEntry, AuditEvent, AuditFilter},
        clock::UnixMillis,
        id::TenantId,
        page::{Page, PageRequest},
        store::{Call, Change, StoreError},
    },
    store::engine::{Row, Statement, Value},
};

/// Writes an entry if the statement before it, in the same transaction, changed anything.
///
/// So a repeated change leaves one entry, and a change that did nothing leaves none.
pub(super) fn audited(
    change: &Change,
    action: AuditAction,
    target: &str,
    tenant_id: impl Into<Value>,
    detail: &str,
) -> Statement {
    Statement::new(
        "INSERT INTO audit_log (at, caller, action, target, tenant_id, request_id, detail) \
         SELECT ?1, ?2, ?3, ?4, coalesce(?5, (SELECT tenant_id FROM api_keys WHERE id = ?4), ''), ?6, ?7 \
         WHERE changes() > 0",
    )
    .bind(change.at.0)
    .bind(change.actor.caller.as_str())
    .bind(action.as_str())
    .bind(target)
    .bind(tenant_id)
    .bind(change.actor.request_id.as_str())
    .bind(detail)
}

/// Writes entries that stand for themselves. A repeated run finds those of the first.
pub(super) async fn write<E: Engine>(
    engine: &E,
    call: Call,
    entries: &[Arc<AuditEntry>],
) -> Result<(), StoreError> {
    let entry = |entry: &Arc<AuditEntry>| {
        Statement::new(
            "INSERT INTO audit_log (at, caller, action, target, tenant_id, request_id, detail) \
             SELECT ?1, ?2, ?3, ?4, '', ?5, ?6 \
             WHERE NOT EXISTS (SELECT 1 FROM audit_log WHERE target = ?4 AND action = ?3 AND at = ?1 \
                                 AND request_id = ?5 AND caller = ?2)",
        )
        .bind(entry.change.at.0)
        .bind(entry.change.actor.caller.as_str())
        .bind(entry.action.as_str())
        .bind(entry.target)
        .bind(entry.change.actor.request_id.as_str())
        .bind(entry.detail.as_str())
    };
    engine.transaction(call, entries.iter().map(entry).collect()).await?;
    Ok(())
}

pub(super) async fn list<E: Engine>(
    engine: &E,
    unreadable: &UnreadableRecords,
    call: Call,
    filter: &AuditFilter,
    page: &PageRequest<i64>,
) -> Result<Page<AuditEvent, i64>, StoreError> {
    let sql = listing(
        "seq, at, caller, action, target, tenant_id, request_id, detail",
        // Two indexes, one statement: SQLite tells which to use only when the condition is there or not.
        match &filter.tenant {
            Some(_) => "FROM audit_log WHERE seq < ?1 AND tenant_id = ?3 ORDER BY seq DESC LIMIT ?2",
            None => "FROM audit_log WHERE seq < ?1 AND ?3 IS NULL ORDER BY seq DESC LIMIT ?2",
        },
        "seq DESC",
    );
    let statement = |before: &i64| {
        Statement::new(sql.as_str())
            .bind(*before)
            .bind(overread(page.size))
            .bind(filter.tenant.as_ref().map(TenantId::as_str))
    };
    let events = Listed {
        table: RecordTable::AuditLog,
        named_by: 0,
        position: |row| row.integer(0),
        record: event,
        cursor: |event| event.seq,
    };
    events.page((engine, unreadable, call), page.size, page.after.unwrap_or(i64::MAX), statement).await
}

fn event(row: &Row) -> Result<AuditEvent, StoreError> {
    Ok(AuditEvent {
        seq: row.integer(0)?,
        at: UnixMillis(row.integer(1)?),
        caller: row.text(2)?.to_owned(),
        action: row.text(3)?.to_owned(),
        target: row.text(4)?.to_owned(),
        tenant_id: row.text(5)?.to_owned(),
        request_id: row.text(6)?.to_owned(),
        detail: row.text(7)?.to_owned(),
    })
}
