//! The change log: reading it, and pruning its oldest entries.

use super::{Engine, SqlStore};
use crate::{
    database::engine::{Row, Statement},
    domain::{
        change::{ChangeEvent, ChangeKind, LimitChange, PerSubject},
        change_log::{ChangeLog, LogHeartbeat, LogPage},
        clock::UnixMillis,
        id::{KeyId, TenantId},
        identity::DatabaseIdentity,
        session::SessionId,
        store::{Call, FailureKind, StoreError},
        verdict::Revision,
        watch::{Invalidation, Subject},
    },
};

/// The first row is the state of the database and shows whether the log is still the one that the position was taken from: the
/// log's first and last position, the entry at the position (if it is gone, the last one before it), the database's
/// identity, heartbeat and clock. A response without it is invalid. The others are everything after the position, and
/// whether each subject is revoked, disabled, suspended or unbound.
///
/// Every replica sends this several times a second. An idle poll reads six rows.
const READ_LOG: &str = "\
SELECT NULL, NULL, NULL, NULL, (SELECT coalesce(max(seq), 0) FROM changes), (SELECT coalesce(min(seq), 0) FROM changes), \
       (SELECT kind || ' ' || ref || ' ' || at FROM changes WHERE seq <= ?1 ORDER BY seq DESC LIMIT 1), \
       NULL, NULL, NULL, NULL, (SELECT id || ' ' || epoch || ' ' || replaces FROM database_identity), \
       (SELECT beat || ' ' || at FROM heartbeat), CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER), NULL \
UNION ALL SELECT * FROM ( \
SELECT seq, kind, ref, tenant_id, NULL, NULL, NULL, kind || ' ' || ref || ' ' || at, \
       CASE kind WHEN 'key' THEN (SELECT revoked_at FROM api_keys WHERE id = changes.ref) END, \
       CASE kind WHEN 'tenant' THEN (SELECT status = 'suspended' FROM tenants WHERE id = changes.ref) END, \
       CASE kind WHEN 'session' THEN EXISTS (SELECT 1 FROM session_bindings WHERE session_id = changes.ref) END, \
       NULL, NULL, NULL, CASE kind WHEN 'key' THEN (SELECT disabled_at FROM api_keys WHERE id = changes.ref) END \
FROM changes WHERE seq > ?1 ORDER BY seq LIMIT ?2)";

/// A range of the log's primary key: it reads as many rows as it deletes.
const PRUNE_LOG: &str = "\
DELETE FROM changes WHERE seq <= min((SELECT max(seq) FROM changes) - ?1, (SELECT min(seq) FROM changes) + ?2 - 1)";

/// Whether there is more to prune.
const HAS_MORE_TO_PRUNE: &str =
    "SELECT (SELECT min(seq) FROM changes) <= (SELECT max(seq) FROM changes) - ?1";

impl<E: Engine> ChangeLog for SqlStore<E> {
    async fn read_changes(&self, call: Call, after: i64, limit: usize) -> Result<LogPage, StoreError> {
        read(&self.engine, call, after, limit).await
    }

    async fn prune_changes(&self, call: Call, keep: i64, page: i64) -> Result<bool, StoreError> {
        prune(&self.engine, call, keep, page).await
    }
}

async fn read<E: Engine>(engine: &E, call: Call, after: i64, limit: usize) -> Result<LogPage, StoreError> {
    let statement = Statement::new(READ_LOG).bind(after).bind(i64::try_from(limit).unwrap_or(i64::MAX));
    parse_page(&engine.query(call, statement).await?)
}

async fn prune<E: Engine>(engine: &E, call: Call, keep: i64, page: i64) -> Result<bool, StoreError> {
    let prune = Statement::new(PRUNE_LOG).bind(keep).bind(page);
    let more = Statement::new(HAS_MORE_TO_PRUNE).bind(keep);
    let results = engine.transaction(call, vec![prune, more]).await?;
    match results.last().map(Vec::as_slice) {
        // NULL for an empty log.
        Some([row]) => Ok(row.optional_integer(0)? == Some(1)),
        _ => Err(StoreError::new(
            FailureKind::InvalidResponse,
            "a check of the change log did not return one row",
        )),
    }
}

fn parse_page(rows: &[Row]) -> Result<LogPage, StoreError> {
    let Some((first, entries)) = rows.split_first() else {
        return Err(StoreError::new(FailureKind::InvalidResponse, "the change log returned no rows"));
    };
    if first.optional_integer(0)?.is_some() {
        return Err(StoreError::new(FailureKind::InvalidResponse, "the change log returned no state"));
    }
    let heartbeat = first.optional_text(12)?.and_then(|text| text.split_once(' '));
    let heartbeat = heartbeat.and_then(|(beat, at)| Some((beat.parse().ok()?, at.parse().ok()?)));
    let mut page = LogPage {
        newest: first.integer(4)?,
        oldest: first.integer(5)?,
        anchor: first.optional_text(6)?.map(str::to_owned),
        database: first.optional_text(11)?.and_then(DatabaseIdentity::parse),
        heartbeat: LogHeartbeat {
            beat: heartbeat.map(|(beat, _)| beat),
            at: UnixMillis(heartbeat.map_or(0, |(_, at)| at)),
            now: UnixMillis(first.integer(13)?),
        },
        entries: Vec::new(),
        per_subject: PerSubject::default(),
        invalidations: Vec::new(),
    };
    for row in entries {
        let seq = row.integer(0)?;
        page.entries.push((seq, row.text(7)?.to_owned()));
        add_change(&mut page, row, Revision(seq))?;
    }
    Ok(page)
}

/// Of several changes of one subject the last one counts; its revocation is read at the time of the poll.
fn add_change(page: &mut LogPage, row: &Row, revision: Revision) -> Result<(), StoreError> {
    let event = |kind| ChangeEvent { kind, revision: Some(revision) };
    let (kind, id) = (row.text(1)?, row.text(2)?);
    let subject = match kind {
        "key" => {
            let revoked_at = row.optional_integer(8)?.map(UnixMillis);
            let is_disabled = row.optional_integer(14)?.is_some();
            let Ok(id) = KeyId::parse(id) else { return Ok(()) };
            let kind = match revoked_at {
                Some(at) => ChangeKind::Revoked(at),
                None if is_disabled => ChangeKind::Disabled,
                None => ChangeKind::Changed,
            };
            page.per_subject.keys.insert(id.clone(), event(kind));
            Subject::Key(id)
        }
        "tenant" => {
            let suspended = row.optional_integer(9)? == Some(1);
            let Ok(id) = TenantId::parse(id) else { return Ok(()) };
            page.per_subject.tenants.insert(
                id.clone(),
                event(if suspended { ChangeKind::Suspended } else { ChangeKind::Changed }),
            );
            Subject::Tenant(id)
        }
        "session" => {
            let bound = row.optional_integer(10)? == Some(1);
            let Ok(id) = SessionId::parse(id) else { return Ok(()) };
            page.per_subject
                .sessions
                .insert(id.clone(), event(if bound { ChangeKind::Changed } else { ChangeKind::Unbound }));
            Subject::Session(id)
        }
        "limit" | "lease" => {
            let change = if kind == "limit" { LimitChange::Definition } else { LimitChange::LeaseWanted };
            let known = page.per_subject.limits.entry(TenantId::parse(row.text(3)?).ok()).or_insert(change);
            *known = change.max(*known);
            return Ok(());
        }
        // Written by a newer version, or only to move the log on; no verdict of this version depends on it.
        _ => return Ok(()),
    };
    if let Ok(tenant) = TenantId::parse(row.text(3)?) {
        page.invalidations.push(Invalidation { revision, subject, tenant });
    }
    Ok(())
}

#[cfg(test)]
mod fuzz;
