//! Sessions: bound, looked up with their key and tenant, slid, ended, swept.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Engine,
    lookup::{json, scopes_of, status_of},
    overread,
    rows::{listed, listing, only},
    unreadable,
};
use crate::{
    domain::{
        clock::UnixMillis,
        id::{KeyId, TenantId},
        key::KeyRecord,
        page::{Page, PageRequest},
        session::{Attributes, Binding, Expiry, NewSession, Session, SessionId, SessionRecord, Ttl},
        store::{Call, FailureKind, Found, StoreError},
        verdict::Revision,
    },
    store::engine::{Row, Statement},
};

/// A session's own columns, from the first on.
const COLUMNS: &str = "session_id, tenant_id, key_id, created_at, expires_at, ttl, sliding, attributes";

/// Gives exactly one row per id, whether there is such a session or not. One whose key or tenant was deleted counts as
/// absent: there is nobody it could belong to.
const LOOKUP: &str = "\
SELECT bound.session_id, bound.tenant_id, bound.key_id, bound.created_at, bound.expires_at, bound.ttl, bound.sliding, \
       bound.attributes, tenants.name, tenants.plan, tenants.status, keys.scopes, keys.expires_at, keys.revoked_at, \
       wanted.key, (SELECT coalesce(max(seq), 0) FROM changes) \
FROM json_each(?1) AS wanted \
LEFT JOIN session_bindings AS bound ON bound.session_id = wanted.value \
LEFT JOIN api_keys AS keys ON keys.id = bound.key_id \
LEFT JOIN tenants ON tenants.id = bound.tenant_id \
ORDER BY wanted.key";

/// Makes room before a binding that would be one too many, and only then.
const MAKE_ROOM: &str = "\
DELETE FROM session_bindings WHERE tenant_id = ?1 AND expires_at <= ?2 \
  AND (SELECT sessions FROM session_counts WHERE tenant_id = ?1) >= ?3";

/// Binds, or leaves what is bound as it is. What is over, or whose key is, is bound anew, by its own tenant only.
const BIND: &str = "\
INSERT INTO session_bindings \
       (session_id, tenant_id, key_id, created_at, expires_at, ttl, sliding, attributes, bind_id) \
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 \
WHERE coalesce((SELECT sessions FROM session_counts WHERE tenant_id = ?2), 0) < ?10 \
   OR EXISTS (SELECT 1 FROM session_bindings WHERE session_id = ?1) \
ON CONFLICT (session_id) DO UPDATE SET \
    key_id = excluded.key_id, created_at = excluded.created_at, expires_at = excluded.expires_at, \
    ttl = excluded.ttl, sliding = excluded.sliding, attributes = excluded.attributes, bind_id = excluded.bind_id \
WHERE session_bindings.tenant_id = excluded.tenant_id \
  AND (session_bindings.expires_at <= excluded.created_at \
       OR NOT EXISTS (SELECT 1 FROM api_keys WHERE api_keys.id = session_bindings.key_id \
                        AND api_keys.revoked_at IS NULL \
                        AND (api_keys.expires_at IS NULL OR api_keys.expires_at > excluded.created_at)))";

/// The end moves on from the moment of use, and never back. What is gone stays gone.
const SLIDE: &str = "\
UPDATE session_bindings SET expires_at = used.at + session_bindings.ttl \
FROM (SELECT value ->> '$[0]' AS id, value ->> '$[1]' AS at FROM json_each(?1)) AS used \
WHERE session_bindings.session_id = used.id AND session_bindings.sliding = 1 \
  AND session_bindings.expires_at < used.at + session_bindings.ttl";

pub(super) async fn lookup<E: Engine>(
    engine: &E,
    call: Call,
    ids: &[SessionId],
) -> Result<Found<SessionRecord>, StoreError> {
    let wanted: Vec<_> = ids.iter().map(SessionId::as_str).collect();
    let rows = engine.query(call, Statement::new(LOOKUP).bind(json(&wanted)?)).await?;
    if rows.len() != ids.len() {
        let message = format!("asked for {} sessions, got {} rows", ids.len(), rows.len());
        return Err(StoreError::new(FailureKind::Garbled, message));
    }
    let mut found =
        Found { records: Vec::with_capacity(rows.len()), revision: Revision::default(), doubt: None };
    for (index, row) in rows.iter().enumerate() {
        if usize::try_from(row.integer(14)?) != Ok(index) {
            return Err(StoreError::new(FailureKind::Garbled, "rows are out of order"));
        }
        found.revision = found.revision.max(Revision(row.integer(15)?));
        found.records.push(record(row)?);
    }
    Ok(found)
}

pub(super) async fn bind<E: Engine>(engine: &E, call: Call, new: &NewSession) -> Result<Binding, StoreError> {
    let session = &new.session;
    let attributes: BTreeMap<_, _> = session.attributes.iter().collect();
    let make_room = Statement::new(MAKE_ROOM)
        .bind(session.tenant_id.as_str())
        .bind(session.created_at.0)
        .bind(i64::from(new.cap));
    let bind = Statement::new(BIND)
        .bind(session.id.as_str())
        .bind(session.tenant_id.as_str())
        .bind(session.key_id.as_str())
        .bind(session.created_at.0)
        .bind(session.expires_at.0)
        .bind(i64::try_from(session.ttl.get().as_millis()).unwrap_or(i64::MAX))
        .bind(i64::from(session.expiry == Expiry::Sliding))
        .bind(json(&attributes)?)
        .bind(new.bind_id.as_str())
        .bind(i64::from(new.cap));
    let read = Statement::new(format!(
        "SELECT {COLUMNS}, bind_id FROM (SELECT 1) LEFT JOIN session_bindings ON session_id = ?1"
    ))
    .bind(session.id.as_str());
    let results = engine.transaction(call, vec![make_room, bind, read]).await?;
    let rows = super::last_rows(results)?;
    let Some(row) = only(&rows)? else {
        return Ok(Binding::TooMany);
    };
    let stored = session_in(row)?;
    if stored.tenant_id != session.tenant_id {
        return Ok(Binding::HeldByAnotherTenant);
    }
    let already = row.text(8)? != new.bind_id;
    Ok(Binding::Bound { session: Box::new(stored), already })
}

pub(super) async fn unbind<E: Engine>(
    engine: &E,
    call: Call,
    id: &SessionId,
    tenant: &TenantId,
    now: UnixMillis,
) -> Result<bool, StoreError> {
    let was = Statement::new(
        "SELECT EXISTS (SELECT 1 FROM session_bindings WHERE session_id = ?1 AND tenant_id = ?2 AND expires_at > ?3)",
    )
    .bind(id.as_str())
    .bind(tenant.as_str())
    .bind(now.0);
    let delete = Statement::new("DELETE FROM session_bindings WHERE session_id = ?1 AND tenant_id = ?2")
        .bind(id.as_str())
        .bind(tenant.as_str());
    let results = engine.transaction(call, vec![was, delete]).await?;
    first_integer(results.first().map(Vec::as_slice)).map(|was| was == 1)
}

pub(super) async fn list<E: Engine>(
    engine: &E,
    call: Call,
    tenant: &TenantId,
    now: UnixMillis,
    page: &PageRequest<(UnixMillis, SessionId)>,
) -> Result<Page<Session, (UnixMillis, SessionId)>, StoreError> {
    let (at, id) = page.after.as_ref().map_or((i64::MAX, ""), |(at, id)| (at.0, id.as_str()));
    let statement = Statement::new(listing(
        COLUMNS,
        "FROM session_bindings WHERE tenant_id = ?1 AND expires_at > ?2 \
         AND (created_at < ?3 OR (created_at = ?3 AND session_id > ?4)) \
         ORDER BY created_at DESC, session_id LIMIT ?5",
        "created_at DESC, session_id",
    ))
    .bind(tenant.as_str())
    .bind(now.0)
    .bind(at)
    .bind(id)
    .bind(overread(page.size));
    let rows = engine.query(call, statement).await?;
    let sessions = listed(&rows)?.iter().map(session_in).collect::<Result<Vec<_>, _>>()?;
    Ok(Page::from_overread(sessions, page.size, |session| (session.created_at, session.id.clone())))
}

pub(super) async fn slide<E: Engine>(
    engine: &E,
    call: Call,
    uses: &[(SessionId, UnixMillis)],
) -> Result<(), StoreError> {
    let uses: Vec<_> = uses.iter().map(|(id, at)| (id.as_str(), at.0)).collect();
    engine.transaction(call, vec![Statement::new(SLIDE).bind(json(&uses)?)]).await?;
    Ok(())
}

pub(super) async fn sweep<E: Engine>(
    engine: &E,
    call: Call,
    before: UnixMillis,
    limit: usize,
) -> Result<u64, StoreError> {
    let delete = Statement::new(
        "DELETE FROM session_bindings WHERE session_id IN \
         (SELECT session_id FROM session_bindings WHERE expires_at < ?1 ORDER BY expires_at LIMIT ?2)",
    )
    .bind(before.0)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX));
    let results = engine.transaction(call, vec![delete, Statement::new("SELECT changes()")]).await?;
    let deleted = first_integer(results.last().map(Vec::as_slice))?;
    u64::try_from(deleted).map_err(|_| StoreError::new(FailureKind::Garbled, "a negative count"))
}

fn first_integer(rows: Option<&[Row]>) -> Result<i64, StoreError> {
    let row = rows.and_then(<[Row]>::first);
    row.ok_or_else(|| StoreError::new(FailureKind::Garbled, "a transaction gave too few results"))?.integer(0)
}

fn record(row: &Row) -> Result<Option<SessionRecord>, StoreError> {
    let (Some(_), Some(status), Some(scopes)) =
        (row.optional_text(0)?, row.optional_text(10)?, row.optional_text(11)?)
    else {
        return Ok(None);
    };
    let session = session_in(row)?;
    let key = KeyRecord {
        key_id: session.key_id.clone(),
        tenant_id: session.tenant_id.clone(),
        tenant_name: row.text(8)?.into(),
        plan: row.text(9)?.into(),
        tenant_status: status_of(status)?,
        scopes: scopes_of(scopes)?,
        expires_at: row.optional_integer(12)?.map(UnixMillis),
        revoked_at: row.optional_integer(13)?.map(UnixMillis),
        last_used_at: None,
    };
    Ok(Some(SessionRecord { session, key, unbound: false }))
}

fn session_in(row: &Row) -> Result<Session, StoreError> {
    let millis = u64::try_from(row.integer(5)?).map_err(|why| unreadable("time to live", why))?;
    let attributes: BTreeMap<String, String> =
        serde_json::from_str(row.text(7)?).map_err(|why| unreadable("set of attributes", why))?;
    Ok(Session {
        id: SessionId::parse(row.text(0)?).map_err(|why| unreadable("session id", why))?,
        tenant_id: TenantId::parse(row.text(1)?).map_err(|why| unreadable("tenant id", why))?,
        key_id: KeyId::parse(row.text(2)?).map_err(|why| unreadable("key id", why))?,
        created_at: UnixMillis(row.integer(3)?),
        expires_at: UnixMillis(row.integer(4)?),
        expiry: if row.integer(6)? == 1 { Expiry::Sliding } else { Expiry::Fixed },
        ttl: Ttl::stored(Duration::from_millis(millis)),
        attributes: Attributes::new(attributes).map_err(|why| unreadable("set of attributes", why))?,
    })
}
