//! Expired and orphaned sessions: those past their own expiry, and those whose key has expired or was revoked. They
//! do not count against the limit, and are deleted.

use std::time::Duration;

use super::first_integer;
use crate::{
    database::{
        engine::{Engine, Row, Statement},
        sql::{millis, rows::sql_limit, transaction::last_rows},
    },
    domain::{
        session::{NewSession, SessionOpener, SweptSessions},
        store::{Call, FailureKind, StoreError},
    },
};

/// How many sessions one binding deletes to free slots, unless the tenant exceeds its limit by more.
const FREED_SESSIONS_PER_BIND: i64 = 100;
/// Maximum number of sessions that one binding deletes: after the limit was lowered, the rest is left to the sweep.
const MAX_FREED_SESSIONS_PER_BIND: i64 = 5_000;

/// Frees slots before a binding that would exceed the limit, and only then: otherwise it reads one row of
/// `session_counts`.
///
/// It goes from opener to opener by the index, so that a tenant full of live sessions costs one lookup for each of
/// its keys, and not one for each session. The limit of the expiry is not a CASE with EXISTS: as a bound of an index, the new
/// engine of Turso (0.8.3) computes that wrongly, and live sessions would be deleted.
const FREE_EXPIRED_SESSIONS: &str = concat!(
    "DELETE FROM session_bindings WHERE session_id IN ( \
        WITH RECURSIVE openers (key_id) AS ( \
            SELECT (SELECT min(key_id) FROM session_bindings WHERE tenant_id = ?1) \
            FROM session_counts WHERE tenant_id = ?1 AND sessions >= ?2 \
            UNION ALL \
            SELECT (SELECT min(key_id) FROM session_bindings WHERE tenant_id = ?1 AND key_id > openers.key_id) \
            FROM openers WHERE openers.key_id IS NOT NULL) \
        SELECT over.session_id FROM openers CROSS JOIN session_bindings AS over \
        ON over.tenant_id = ?1 AND over.key_id = openers.key_id \
           AND over.expires_at <= coalesce((SELECT ",
    now!(),
    " FROM api_keys WHERE api_keys.id = openers.key_id AND api_keys.tenant_id = ?1 AND ",
    key_lives!(),
    "), 9223372036854775807) \
        LIMIT min(?4, max(?3, coalesce((SELECT sessions - ?2 + 1 FROM session_counts WHERE tenant_id = ?1), 0))))"
);

/// Sessions past their own expiry.
const SWEEP_EXPIRED: &str = concat!(
    "DELETE FROM session_bindings WHERE session_id IN \
     (SELECT session_id FROM session_bindings WHERE expires_at < ",
    now!(),
    " - ?1 ORDER BY expires_at LIMIT ?2)"
);

/// A page of openers: the keys that opened sessions, each found by one or two index lookups, regardless of the number
/// of its sessions. Not by a row value from the previous step: SQLite would use only its first column with the index.
macro_rules! openers {
    () => {
        "WITH RECURSIVE openers (tenant_id, key_id, position) AS ( \
            SELECT tenant_id, key_id, 1 FROM session_bindings WHERE session_id = ( \
                SELECT session_id FROM session_bindings WHERE (tenant_id, key_id) > (?1, ?2) \
                    AND typeof(tenant_id) = 'text' AND typeof(key_id) = 'text' ORDER BY tenant_id, key_id LIMIT 1) \
            UNION ALL \
            SELECT next.tenant_id, next.key_id, openers.position + 1 \
            FROM openers CROSS JOIN session_bindings AS next ON next.session_id = coalesce( \
                (SELECT session_id FROM session_bindings WHERE tenant_id = openers.tenant_id \
                    AND key_id > openers.key_id AND typeof(key_id) = 'text' ORDER BY key_id LIMIT 1), \
                (SELECT session_id FROM session_bindings WHERE tenant_id > openers.tenant_id \
                    AND typeof(tenant_id) = 'text' AND typeof(key_id) = 'text' ORDER BY tenant_id, key_id LIMIT 1)) \
            WHERE openers.position < ?3) "
    };
}

/// The last opener of the page, if there may be more after it.
const LAST_OPENER: &str = concat!(openers!(), "SELECT tenant_id, key_id FROM openers WHERE position = ?3");

/// Orphaned sessions: their opener was revoked, has expired or belongs to a suspended tenant for a while; or it was
/// deleted or moved to another tenant, for which no time is recorded.
const SWEEP_ORPHANED: &str = concat!(
    "DELETE FROM session_bindings WHERE session_id IN ( ",
    openers!(),
    "SELECT ended.session_id FROM openers CROSS JOIN session_bindings AS ended \
     ON ended.tenant_id = openers.tenant_id AND ended.key_id = openers.key_id \
     WHERE NOT EXISTS (SELECT 1 FROM api_keys JOIN tenants ON tenants.id = api_keys.tenant_id \
        WHERE api_keys.id = openers.key_id AND api_keys.tenant_id = openers.tenant_id \
          AND (api_keys.revoked_at IS NULL OR api_keys.revoked_at >= ",
    now!(),
    " - ?4) AND (api_keys.expires_at IS NULL OR api_keys.expires_at >= ",
    now!(),
    " - ?4) AND (tenants.status <> 'suspended' OR tenants.updated_at >= ",
    now!(),
    " - ?4)) LIMIT ?5)"
);

pub(super) fn free_expired_sessions(new: &NewSession) -> Statement {
    Statement::new(FREE_EXPIRED_SESSIONS)
        .bind(new.tenant_id.as_str())
        .bind(i64::from(new.max_sessions))
        .bind(FREED_SESSIONS_PER_BIND)
        .bind(MAX_FREED_SESSIONS_PER_BIND)
}

pub(in crate::database::sql) async fn sweep_expired<E: Engine>(
    engine: &E,
    call: Call,
    over_for: Duration,
    limit: usize,
) -> Result<u64, StoreError> {
    let delete = Statement::new(SWEEP_EXPIRED).bind(millis(over_for)).bind(sql_limit(limit));
    let results = engine.transaction(call, vec![delete, Statement::new("SELECT changes()")]).await?;
    deleted_count(results.last().map(Vec::as_slice))
}

pub(in crate::database::sql) async fn sweep_orphaned<E: Engine>(
    engine: &E,
    call: Call,
    after: Option<&SessionOpener>,
    over_for: Duration,
    limit: usize,
) -> Result<SweptSessions, StoreError> {
    let (tenant, key) = after.map_or(("", ""), |(tenant, key)| (tenant, key));
    let page = |sql| Statement::new(sql).bind(tenant).bind(key).bind(sql_limit(limit));
    let delete = page(SWEEP_ORPHANED).bind(millis(over_for)).bind(sql_limit(limit));
    // The last opener first, because deleting removes openers.
    let steps = vec![page(LAST_OPENER), delete, Statement::new("SELECT changes()")];
    let mut results = engine.transaction(call, steps).await?;
    let sessions = deleted_count(results.pop().as_deref())?;
    results.pop();
    let last_opener = match last_rows(results)?.as_slice() {
        [] => None,
        [row] => Some((row.text(0)?.to_owned(), row.text(1)?.to_owned())),
        _ => {
            return Err(StoreError::new(
                FailureKind::InvalidResponse,
                "a page of openers returned several last rows",
            ));
        }
    };
    Ok(SweptSessions { deleted: sessions, last_opener })
}

fn deleted_count(rows: Option<&[Row]>) -> Result<u64, StoreError> {
    u64::try_from(first_integer(rows)?)
        .map_err(|_| StoreError::new(FailureKind::InvalidResponse, "a negative count"))
}
