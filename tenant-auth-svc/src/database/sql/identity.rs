//! The identity of the database, and its heartbeat.

use std::time::Duration;

use super::{Engine, audit::audit_statement, millis, rows::unreadable_value, transaction::last_rows};
use crate::{
    database::engine::{Row, SqlValue, Statement, WRONG_DATABASE_MARKER},
    domain::{
        audit::AuditAction,
        identity::{DatabaseIdentity, Trust},
        store::{Call, Change, FailureKind, StoreError},
        text::Reason,
    },
};

/// `<id> <epoch> <replaced id>`, as one value of any statement.
pub const IDENTITY_SQL: &str = "(SELECT id || ' ' || epoch || ' ' || replaces FROM database_identity)";

/// The first statement of every transaction once a database is known: it fails in any other database, and in one that
/// lacks what was read of the known one's log, so that the transaction has no effect there. It reads three rows.
#[must_use]
pub fn guard_statement(trust: &Trust) -> Option<Statement> {
    let DatabaseIdentity { id, epoch, replaces } = trust.known.as_ref()?;
    // The anchor at a position is unknown once that part of the log was pruned.
    let guard = Statement::new(format!(
        "SELECT CASE WHEN found.identity = ?1 AND found.log_end >= ?2 AND coalesce(found.mark = ?3, TRUE) THEN 1 \
         ELSE json_extract('{{}}', '{WRONG_DATABASE_MARKER}' || coalesce(found.identity, '')) END \
         FROM (SELECT {IDENTITY_SQL} AS identity, (SELECT coalesce(max(seq), 0) FROM changes) AS log_end, \
                      (SELECT kind || ' ' || ref || ' ' || at FROM changes WHERE seq <= ?2 ORDER BY seq DESC LIMIT 1) AS mark) AS found"
    ));
    let anchor = trust.anchor.as_deref().map_or(SqlValue::Null, SqlValue::from);
    Some(guard.bind(format!("{id} {epoch} {replaces}")).bind(trust.position.0).bind(anchor))
}

/// Reads the identity of the database.
///
/// # Errors
/// [`FailureKind::SchemaMissing`] when it has no identity; or when it does not respond.
pub async fn read<E: Engine>(engine: &E, call: Call) -> Result<DatabaseIdentity, StoreError> {
    let rows = engine.query(call, Statement::new(format!("SELECT {IDENTITY_SQL}"))).await?;
    let row = rows.first().ok_or_else(|| {
        StoreError::new(FailureKind::InvalidResponse, "the identity query did not return one row")
    })?;
    read_identity(row, 0)
}

pub(super) async fn accept<E: Engine>(
    engine: &E,
    call: Call,
    known: &DatabaseIdentity,
    reason: &Reason,
    change: &Change,
) -> Result<DatabaseIdentity, StoreError> {
    // Safe to repeat, and takes effect once for all replicas that know the same database.
    let update = Statement::new(concat!(
        "UPDATE database_identity SET epoch = max(epoch, ?1) + 1, replaces = ?2, accepted_at = ",
        now!(),
        " WHERE epoch <= ?1 OR replaces <> ?2"
    ))
    .bind(known.epoch)
    .bind(known.id.as_str());
    let detail = format!("instead of {known}: {}", reason.as_str());
    let audit =
        audit_statement(change, AuditAction::DatabaseAccept, known.id.as_str(), SqlValue::from(""), &detail);
    let read = Statement::new(format!("SELECT {IDENTITY_SQL}"));
    let rows = last_rows(engine.transaction(call, vec![update, audit, read]).await?)?;
    let row = rows.first().ok_or_else(|| {
        StoreError::new(FailureKind::InvalidResponse, "the identity query did not return one row")
    })?;
    read_identity(row, 0)
}

pub(super) async fn write_heartbeat<E: Engine>(
    engine: &E,
    call: Call,
    interval: Duration,
) -> Result<i64, StoreError> {
    // Of several replicas that find it due, one writes it. A heartbeat in the future, after the clock was set back,
    // is due too.
    let update = Statement::new(concat!(
        "UPDATE heartbeat SET beat = beat + 1, at = ",
        now!(),
        " WHERE at <= ",
        now!(),
        " - ?1 OR at > ",
        now!()
    ))
    .bind(millis(interval));
    let read = Statement::new("SELECT beat FROM heartbeat");
    let rows = last_rows(engine.transaction(call, vec![update, read]).await?)?;
    let row = rows
        .first()
        .ok_or_else(|| StoreError::new(FailureKind::SchemaMissing, "the database has no heartbeat"))?;
    row.integer(0)
}

pub(super) async fn read_primary_heartbeat<E: Engine>(
    engine: &E,
    call: Call,
) -> Result<(i64, Duration), StoreError> {
    let read = Statement::new(concat!("SELECT beat, ", now!(), " - at FROM heartbeat")).at_primary();
    let rows = engine.query(call, read).await?;
    let row = rows
        .first()
        .ok_or_else(|| StoreError::new(FailureKind::SchemaMissing, "the database has no heartbeat"))?;
    // A heartbeat in the future, after the clock was set back, counts as infinitely old.
    let age = Duration::from_millis(u64::try_from(row.integer(1)?).unwrap_or(u64::MAX));
    Ok((row.integer(0)?, age))
}

/// Reads the identity of the database.
pub(super) fn read_identity(row: &Row, column: usize) -> Result<DatabaseIdentity, StoreError> {
    let missing = || StoreError::new(FailureKind::SchemaMissing, "the database has no identity");
    let text = row.optional_text(column)?.ok_or_else(missing)?;
    DatabaseIdentity::parse(text).ok_or_else(|| unreadable_value("identity"))
}
