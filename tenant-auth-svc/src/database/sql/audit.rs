//! The audit log.

use std::sync::Arc;

use super::{
    Engine, RecordTable, SqlStore, UnreadableRecords,
    rows::{ListingReader, Records, filtered_listing_sql, listing_sql},
};
use crate::{
    database::engine::{Row, SqlValue, Statement},
    domain::{
        audit::{
            AuditAction, AuditBatch, AuditCheckpoint, AuditCursor, AuditEntry, AuditEvent, AuditFilter,
            AuditStore, AuditTerm,
        },
        clock::UnixMillis,
        page::{Page, PageRequest, PageSize},
        store::{Call, Change, FailureKind, StoreError},
    },
};

const AUDIT_COLUMNS: &str = "seq, at, caller, action, target, tenant_id, request_id, detail";

/// Writes an entry if the previous statement of the same transaction changed anything.
///
/// So a repeated write leaves one entry, and a write without effect leaves none.
pub(super) fn audit_statement(
    change: &Change,
    action: AuditAction,
    target: &str,
    tenant_id: impl Into<SqlValue>,
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

impl<E: Engine> AuditStore for SqlStore<E> {
    async fn write_audit(&self, call: Call, entries: &[Arc<AuditEntry>]) -> Result<(), StoreError> {
        write(&self.engine, call, entries).await
    }

    async fn read_audit(
        &self,
        call: Call,
        after: Option<&AuditCheckpoint>,
        size: PageSize,
    ) -> Result<AuditBatch, StoreError> {
        read(&self.engine, &self.unreadable_records, call, after, size).await
    }
}

/// Writes entries without a data change. A repeated run finds those of the first.
async fn write<E: Engine>(engine: &E, call: Call, entries: &[Arc<AuditEntry>]) -> Result<(), StoreError> {
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
    page: &PageRequest<AuditCursor>,
) -> Result<Page<AuditEvent, AuditCursor>, StoreError> {
    let AuditListing { sql, terms, is_filtered } = listing_of(filter);
    let statement = |before: &AuditCursor, limit| {
        let statement = Statement::new(sql.as_str()).bind(before.at.0).bind(before.seq).bind(limit);
        terms.iter().fold(statement, |statement, term| statement.bind(term.clone()))
    };
    let events = ListingReader {
        table: RecordTable::AuditLog,
        id_column: 0,
        records: if is_filtered { Records::Matching(|cursor| Some(*cursor)) } else { Records::All },
        read_position: |row| Ok(AuditCursor { at: UnixMillis(row.integer(1)?), seq: row.integer(0)? }),
        read_record: read_event,
        cursor_of: |event| AuditCursor { at: event.at, seq: event.seq },
    };
    // Before the first entry at `until` or later.
    let end = filter.until.map_or(AuditCursor::START, |until| AuditCursor { at: until, seq: i64::MIN });
    let after = page.after.filter(|after| filter.until.is_none_or(|until| after.at < until)).unwrap_or(end);
    events.read_page((engine, unreadable, call), page.size, after, statement).await
}

async fn read<E: Engine>(
    engine: &E,
    unreadable: &UnreadableRecords,
    call: Call,
    after: Option<&AuditCheckpoint>,
    size: PageSize,
) -> Result<AuditBatch, StoreError> {
    let is_in_log = match after {
        Some(checkpoint) => contains_entry(engine, call, checkpoint).await?,
        None => true,
    };
    let sql = listing_sql(AUDIT_COLUMNS, "FROM audit_log WHERE seq > ?1 ORDER BY seq LIMIT ?2");
    let events = ListingReader {
        table: RecordTable::AuditLog,
        id_column: 0,
        records: Records::All,
        read_position: |row| row.integer(0),
        read_record: read_event,
        cursor_of: |event| event.seq,
    };
    let begin = after.filter(|_| is_in_log).map_or(0, |checkpoint| checkpoint.seq);
    let statement = |seq: &i64, limit| Statement::new(sql.as_str()).bind(*seq).bind(limit);
    let page = events.read_page((engine, unreadable, call), size, begin, statement).await?;
    Ok(AuditBatch { events: page.items, from_beginning: !is_in_log, has_more: page.next.is_some() })
}

/// Whether the log contains the checkpoint's entry.
async fn contains_entry<E: Engine>(
    engine: &E,
    call: Call,
    checkpoint: &AuditCheckpoint,
) -> Result<bool, StoreError> {
    let statement = Statement::new(
        "SELECT count(*) FROM audit_log WHERE seq = ?1 AND at = ?2 AND target = ?3 AND request_id = ?4",
    )
    .bind(checkpoint.seq)
    .bind(checkpoint.at.0)
    .bind(checkpoint.target.as_str())
    .bind(checkpoint.request_id.as_str());
    let rows = engine.query(call, statement).await?;
    let row = rows
        .first()
        .ok_or_else(|| StoreError::new(FailureKind::InvalidResponse, "a count did not return one row"))?;
    Ok(row.integer(0)? == 1)
}

/// A listing of the log.
struct AuditListing {
    sql: String,
    /// Bound from `?4` on.
    terms: Vec<SqlValue>,
    /// Whether rows that do not match are read too.
    is_filtered: bool,
}

/// Returns how entries are listed.
///
/// There is one index each by target, tenant, caller, action and time, in the order of the listing. The statement names the
/// index explicitly; other conditions are checked entry by entry. A target has few entries, and a tenant usually has
/// fewer than a caller. A caller that is searched for with an action is usually a person, who has few. Entries at the time at which the previous page ended are checked again: there are at most as
/// many as one import has keys.
fn listing_of(filter: &AuditFilter) -> AuditListing {
    let text =
        |term: &Option<AuditTerm>| -> Option<SqlValue> { term.as_ref().map(|term| term.as_str().into()) };
    let conditions = [
        (text(&filter.target), "target", "audit_log_by_target"),
        (filter.tenant.as_ref().map(|tenant| tenant.as_str().into()), "tenant_id", "audit_log_by_tenant"),
        (text(&filter.caller), "caller", "audit_log_by_caller"),
        (text(&filter.action), "action", "audit_log_by_action"),
    ];
    let (mut index, mut range, mut others, mut terms) =
        ("audit_log_by_time", String::new(), Vec::new(), Vec::new());
    for (term, column, of_column) in conditions {
        let Some(term) = term else { continue };
        let condition = format!("{column} = ?{}", terms.len() + 4);
        if terms.is_empty() {
            (index, range) = (of_column, format!(" AND {condition}"));
        } else {
            others.push(condition);
        }
        terms.push(term);
    }
    // The end of the range on any index.
    if let Some(since) = filter.since {
        range += &format!(" AND at >= ?{}", terms.len() + 4);
        terms.push(since.0.into());
    }
    let from = format!(
        "FROM audit_log INDEXED BY {index} WHERE (at, seq) < (?1, ?2){range} ORDER BY at DESC, seq DESC LIMIT ?3"
    );
    let is_filtered = !others.is_empty();
    let sql = match is_filtered {
        true => filtered_listing_sql(AUDIT_COLUMNS, &["seq", "at"], &others.join(" AND "), &from),
        false => listing_sql(AUDIT_COLUMNS, &from),
    };
    AuditListing { sql, terms, is_filtered }
}

fn read_event(row: &Row) -> Result<AuditEvent, StoreError> {
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
