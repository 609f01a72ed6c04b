//! One read of the change log: what is asked, and what it told.

use crate::{
    domain::{
        change::{BySubject, Fate, News},
        clock::UnixMillis,
        id::{KeyId, TenantId},
        identity::DatabaseIdentity,
        session::SessionId,
        store::{FailureKind, StoreError},
        verdict::Revision,
        watch::{Invalidation, Subject},
    },
    store::engine::Row,
};

/// Everything after a position, and whether the log is still the one that the position was taken from: the entry at
/// it (if it is gone, the last one before it), and the log's first and last; for what has ended, its end; which database it is,
/// its heartbeat and its clock. One row at least, so that an answer without rows is no answer.
pub(super) const READ: &str = "\
SELECT log.seq, log.kind, log.ref, log.tenant_id, \
       (SELECT coalesce(max(seq), 0) FROM changes), (SELECT coalesce(min(seq), 0) FROM changes), \
       (SELECT kind || ' ' || ref || ' ' || at FROM changes WHERE seq <= ?1 ORDER BY seq DESC LIMIT 1), \
       log.kind || ' ' || log.ref || ' ' || log.at, \
       CASE log.kind WHEN 'key' THEN (SELECT revoked_at FROM api_keys WHERE id = log.ref) END, \
       CASE log.kind WHEN 'tenant' THEN (SELECT status = 'suspended' FROM tenants WHERE id = log.ref) END, \
       CASE log.kind WHEN 'session' THEN EXISTS (SELECT 1 FROM session_bindings WHERE session_id = log.ref) END, \
       (SELECT id || ' ' || epoch || ' ' || replaces FROM database_identity), (SELECT beat FROM heartbeat), (SELECT at FROM heartbeat), \
       CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) \
FROM (SELECT 1) LEFT JOIN (SELECT seq, kind, ref, tenant_id, at FROM changes WHERE seq > ?1 ORDER BY seq LIMIT ?2) AS log \
ON TRUE ORDER BY log.seq";

/// What one read told.
#[derive(Debug)]
pub(super) struct Reading {
    /// What was read, as the log names it.
    pub(super) entries: Vec<(i64, String)>,
    pub(super) newest: i64,
    pub(super) oldest: i64,
    /// The entry at the position after which was read, or the last one before it.
    pub(super) mark: Option<String>,
    pub(super) about: BySubject<News>,
    pub(super) changes: Vec<Invalidation>,
    /// `None` where somebody has removed it.
    pub(super) database: Option<DatabaseIdentity>,
    pub(super) heartbeat: Heartbeat,
}

/// What the database says of its heartbeat and its clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heartbeat {
    /// `None` where somebody has removed it.
    pub(super) beat: Option<i64>,
    /// When it was given, by the database's clock.
    pub(super) at: UnixMillis,
    /// The database's clock.
    pub(super) now: UnixMillis,
}

impl Reading {
    pub(super) fn read(rows: &[Row]) -> Result<Self, StoreError> {
        let Some(first) = rows.first() else {
            return Err(StoreError::new(FailureKind::Garbled, "the change log gave no row at all"));
        };
        let mut reading = Self {
            newest: first.integer(4)?,
            oldest: first.integer(5)?,
            mark: first.optional_text(6)?.map(str::to_owned),
            database: first.optional_text(11)?.and_then(DatabaseIdentity::parse),
            heartbeat: Heartbeat {
                beat: first.optional_integer(12)?,
                at: UnixMillis(first.optional_integer(13)?.unwrap_or_default()),
                now: UnixMillis(first.integer(14)?),
            },
            entries: Vec::new(),
            about: BySubject::default(),
            changes: Vec::new(),
        };
        for row in rows {
            let Some(seq) = row.optional_integer(0)? else { continue };
            reading.entries.push((seq, row.text(7)?.to_owned()));
            reading.note(row, Revision(seq))?;
        }
        Ok(reading)
    }

    /// The last entry that was read.
    pub(super) fn last(&self) -> Option<&(i64, String)> {
        self.entries.last()
    }

    /// Of several changes of one subject the last one counts: its end, if it has one, is that of the moment of the read.
    fn note(&mut self, row: &Row, revision: Revision) -> Result<(), StoreError> {
        let news = |fate| News { fate, revision: Some(revision) };
        let (kind, id) = (row.text(1)?, row.text(2)?);
        let subject = match kind {
            "key" => {
                let revoked_at = row.optional_integer(8)?.map(UnixMillis);
                let Ok(id) = KeyId::parse(id) else { return Ok(()) };
                self.about.keys.insert(id.clone(), news(revoked_at.map_or(Fate::Changed, Fate::Revoked)));
                Subject::Key(id)
            }
            "tenant" => {
                let suspended = row.optional_integer(9)? == Some(1);
                let Ok(id) = TenantId::parse(id) else { return Ok(()) };
                self.about
                    .tenants
                    .insert(id.clone(), news(if suspended { Fate::Suspended } else { Fate::Changed }));
                Subject::Tenant(id)
            }
            "session" => {
                let bound = row.optional_integer(10)? == Some(1);
                let Ok(id) = SessionId::parse(id) else { return Ok(()) };
                self.about
                    .sessions
                    .insert(id.clone(), news(if bound { Fate::Changed } else { Fate::Unbound }));
                Subject::Session(id)
            }
            // Of a newer version: whatever it is about, no verdict here depends on it.
            _ => return Ok(()),
        };
        if let Ok(tenant) = TenantId::parse(row.text(3)?) {
            self.changes.push(Invalidation { revision, subject, tenant });
        }
        Ok(())
    }
}

#[cfg(test)]
mod fuzz;
