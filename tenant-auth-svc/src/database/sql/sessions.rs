//! Sessions: bind, look up with key and tenant, extend, unbind, sweep.

/// Whether a row of `api_keys` may open sessions, and keep those that it opened.
macro_rules! key_lives {
    () => {
        concat!(
            "api_keys.revoked_at IS NULL AND (api_keys.expires_at IS NULL OR api_keys.expires_at > ",
            now!(),
            ")"
        )
    };
}

/// Whether the key of a row of `session_bindings` may.
macro_rules! opener_lives {
    () => {
        concat!(
            "EXISTS (SELECT 1 FROM api_keys WHERE api_keys.id = session_bindings.key_id \
                       AND api_keys.tenant_id = session_bindings.tenant_id AND ",
            key_lives!(),
            ")"
        )
    };
}

mod sweep;

use std::{collections::BTreeMap, time::Duration};

pub(super) use self::sweep::{sweep_expired, sweep_orphaned};
use super::{
    Engine, RecordTable, UnreadableRecords,
    audit::audit_statement,
    identity::read_identity,
    lookup::{parse_status, read_networks, read_scopes, to_json},
    millis,
    rows::{ListingReader, Records, filtered_listing_sql, single_row, unreadable_value},
    transaction::commit,
};
use crate::{
    database::engine::{Row, Statement},
    domain::{
        audit::AuditAction,
        clock::{OptionalMillis, UnixMillis},
        id::{KeyId, TenantId},
        key::KeyRecord,
        page::{Page, PageRequest},
        session::{
            Attributes, NewSession, Session, SessionExpiry, SessionId, SessionRecord, StoredBinding, Ttl,
        },
        store::{Call, Change, Committed, FailureKind, LookupResult, StoreError},
        tenant::TenantSnapshot,
        text::Reason,
        verdict::Revision,
    },
};

/// A session's own columns.
const SESSION_COLUMNS: &str =
    "session_id, tenant_id, key_id, created_at, expires_at, ttl, sliding, attributes";

/// The column of its key's id.
const KEY_ID_COLUMN: usize = 2;

/// Returns exactly one row per id, in their order, whether the session exists or not. A session whose key or tenant was deleted, or
/// whose key now belongs to another tenant, counts as not found.
const LOOKUP_SQL: &str = "\
SELECT bound.session_id, bound.tenant_id, bound.key_id, bound.created_at, bound.expires_at, bound.ttl, bound.sliding, \
       bound.attributes, tenants.name, tenants.plan, tenants.status, keys.scopes, keys.expires_at, keys.revoked_at, \
       wanted.key, (SELECT coalesce(max(seq), 0) FROM changes), (SELECT id || ' ' || epoch || ' ' || replaces FROM database_identity), \
       keys.disabled_at, keys.allowed_networks \
FROM json_each(?1) AS wanted \
LEFT JOIN session_bindings AS bound ON bound.session_id = wanted.value \
LEFT JOIN api_keys AS keys ON keys.id = bound.key_id AND keys.tenant_id = bound.tenant_id \
LEFT JOIN tenants ON tenants.id = bound.tenant_id";

/// Binds a session, or keeps an existing binding. An expired session, or one whose key has expired, was revoked or is
/// disabled, is bound again, by its own tenant only. A key that now belongs to another tenant is not a key of this one.
/// The condition of the upsert stands in the selection, because the new engine of Turso allows no subquery in it; and the time
/// is read once, because that engine reads its clock again at each mention.
const BIND_SQL: &str = concat!(
    "INSERT INTO session_bindings \
       (session_id, tenant_id, key_id, created_at, expires_at, ttl, sliding, attributes, bind_id) \
     SELECT ?1, ?2, ?3, clock.at, clock.at + ?4, ?4, ?5, ?6, ?7 FROM (SELECT ",
    now!(),
    " AS at) AS clock LEFT JOIN session_bindings ON session_bindings.session_id = ?1 \
     WHERE CASE WHEN session_bindings.session_id IS NULL \
                THEN coalesce((SELECT sessions FROM session_counts WHERE tenant_id = ?2), 0) < ?8 \
                ELSE session_bindings.tenant_id = ?2 AND (session_bindings.expires_at <= clock.at OR NOT ",
    opener_lives!(),
    " OR EXISTS (SELECT 1 FROM api_keys WHERE id = session_bindings.key_id AND disabled_at IS NOT NULL)) END \
     ON CONFLICT (session_id) DO UPDATE SET \
        key_id = excluded.key_id, created_at = excluded.created_at, expires_at = excluded.expires_at, \
        ttl = excluded.ttl, sliding = excluded.sliding, attributes = excluded.attributes, bind_id = excluded.bind_id"
);

/// Extends the expiry from the time of use, never backwards. Deleted sessions stay deleted.
const EXTEND_SQL: &str = concat!(
    "UPDATE session_bindings SET expires_at = used.at + session_bindings.ttl \
     FROM (SELECT value ->> '$[0]' AS id, ",
    now!(),
    " - (value ->> '$[1]') AS at FROM json_each(?1)) AS used \
     WHERE session_bindings.session_id = used.id AND session_bindings.sliding = 1 \
       AND session_bindings.expires_at < used.at + session_bindings.ttl"
);

pub(super) async fn lookup<E: Engine>(
    engine: &E,
    unreadable: &UnreadableRecords,
    call: Call,
    ids: &[SessionId],
) -> Result<LookupResult<SessionRecord>, StoreError> {
    decode(&engine.query(call, lookup_statement(ids)?).await?, ids.len(), unreadable)
}

/// Looks sessions up, also within a transaction.
fn lookup_statement(ids: &[SessionId]) -> Result<Statement, StoreError> {
    let ids: Vec<_> = ids.iter().map(SessionId::as_str).collect();
    Ok(Statement::new(LOOKUP_SQL).bind(to_json(&ids)?))
}

fn decode(
    rows: &[Row],
    ids: usize,
    unreadable: &UnreadableRecords,
) -> Result<LookupResult<SessionRecord>, StoreError> {
    let (Some(first), true) = (rows.first(), rows.len() == ids) else {
        let message = format!("expected rows for {ids} sessions, got {}", rows.len());
        return Err(StoreError::new(FailureKind::InvalidResponse, message));
    };
    let (revision, database) = (Revision::default(), read_identity(first, 16)?);
    let mut found =
        LookupResult { records: Vec::with_capacity(rows.len()), revision, database, not_found_error: None };
    for (index, row) in rows.iter().enumerate() {
        if usize::try_from(row.integer(14)?) != Ok(index) {
            return Err(StoreError::new(FailureKind::InvalidResponse, "rows are out of order"));
        }
        found.revision = found.revision.max(Revision(row.integer(15)?));
        let read =
            unreadable.check(RecordTable::SessionBindings, (row, KEY_ID_COLUMN), read_session_record(row));
        found.records.push(read);
    }
    Ok(found)
}

pub(super) async fn bind<E: Engine>(
    engine: &E,
    unreadable: &UnreadableRecords,
    call: Call,
    new: &NewSession,
) -> Result<Committed<(StoredBinding, Option<SessionRecord>)>, StoreError> {
    let attributes: BTreeMap<_, _> = new.attributes.iter().collect();
    let free_expired = sweep::free_expired_sessions(new);
    let bind = Statement::new(BIND_SQL)
        .bind(new.id.as_str())
        .bind(new.tenant_id.as_str())
        .bind(new.key_id.as_str())
        .bind(millis(new.ttl.get()))
        .bind(i64::from(new.expiry == SessionExpiry::Sliding))
        .bind(to_json(&attributes)?)
        .bind(new.bind_id.as_str())
        .bind(i64::from(new.max_sessions));
    let read = Statement::new(format!(
        "SELECT {SESSION_COLUMNS}, bind_id FROM (SELECT 1) LEFT JOIN session_bindings ON session_id = ?1"
    ))
    .bind(new.id.as_str());
    let lookup = lookup_statement(std::slice::from_ref(&new.id))?;
    let Committed { outcome: mut results, revision } =
        commit(engine, call, vec![free_expired, bind, read, lookup]).await?;
    let lookup = decode(&results.pop().unwrap_or_default(), 1, unreadable)?.records.pop();
    // An unreadable record is reported when it is looked up.
    let record = lookup.and_then(Result::ok).flatten();
    let rows = results.pop().unwrap_or_default();
    let Some(row) = single_row(&rows)? else {
        return Ok(Committed { outcome: (StoredBinding::TooMany, None), revision });
    };
    let session = read_session(row)?;
    if session.tenant_id != new.tenant_id {
        return Ok(Committed { outcome: (StoredBinding::HeldByAnotherTenant, None), revision });
    }
    let already = row.text(8)? != new.bind_id;
    Ok(Committed {
        outcome: (StoredBinding::Bound { session: Box::new(session), already }, record),
        revision,
    })
}

pub(super) async fn unbind<E: Engine>(
    engine: &E,
    call: Call,
    id: &SessionId,
    tenant: &TenantId,
    reason: Option<(&Reason, &Change)>,
) -> Result<Committed<bool>, StoreError> {
    let exists = Statement::new(concat!(
        "SELECT EXISTS (SELECT 1 FROM session_bindings WHERE session_id = ?1 AND tenant_id = ?2 AND expires_at > ",
        now!(),
        ")"
    ))
    .bind(id.as_str())
    .bind(tenant.as_str());
    let delete = Statement::new("DELETE FROM session_bindings WHERE session_id = ?1 AND tenant_id = ?2")
        .bind(id.as_str())
        .bind(tenant.as_str());
    let mut steps = vec![exists, delete];
    if let Some((reason, change)) = reason {
        let action = AuditAction::SessionUnbind;
        steps.push(audit_statement(change, action, id.as_str(), tenant.as_str(), reason.as_str()));
    }
    let Committed { outcome: results, revision } = commit(engine, call, steps).await?;
    let exists = first_integer(results.first().map(Vec::as_slice))?;
    Ok(Committed { outcome: exists == 1, revision })
}

pub(super) async fn list<E: Engine>(
    engine: &E,
    unreadable: &UnreadableRecords,
    call: Call,
    tenant: &TenantId,
    page: &PageRequest<(UnixMillis, SessionId)>,
) -> Result<Page<Session, (UnixMillis, SessionId)>, StoreError> {
    let sql = filtered_listing_sql(
        SESSION_COLUMNS,
        &["session_id", "created_at"],
        concat!("expires_at > ", now!(), " AND ", opener_lives!()),
        // The first comparison is one of the index, so that a page does not read the pages before it.
        "FROM session_bindings WHERE tenant_id = ?1 AND created_at <= ?2 AND (created_at < ?2 OR session_id > ?3) \
         ORDER BY created_at DESC, session_id LIMIT ?4",
    );
    let statement = |(at, id): &(i64, String), limit| {
        Statement::new(sql.as_str()).bind(tenant.as_str()).bind(*at).bind(id.as_str()).bind(limit)
    };
    let sessions = ListingReader {
        table: RecordTable::SessionBindings,
        id_column: KEY_ID_COLUMN,
        records: Records::Matching(|(at, id): &(i64, String)| {
            Some((UnixMillis(*at), SessionId::parse(id).ok()?))
        }),
        read_position: |row| Ok((row.integer(3)?, row.text(0)?.to_owned())),
        read_record: read_session,
        cursor_of: |session| (session.created_at, session.id.clone()),
    };
    let after = page.after.as_ref().map_or((i64::MAX, ""), |(at, id)| (at.0, id.as_str()));
    sessions.read_page((engine, unreadable, call), page.size, (after.0, after.1.to_owned()), statement).await
}

pub(super) async fn extend<E: Engine>(
    engine: &E,
    call: Call,
    uses: &[(SessionId, Duration)],
) -> Result<(), StoreError> {
    let uses: Vec<_> = uses.iter().map(|(id, ago)| (id.as_str(), millis(*ago))).collect();
    engine.transaction(call, vec![Statement::new(EXTEND_SQL).bind(to_json(&uses)?)]).await?;
    Ok(())
}

fn first_integer(rows: Option<&[Row]>) -> Result<i64, StoreError> {
    let row = rows.and_then(<[Row]>::first);
    row.ok_or_else(|| {
        StoreError::new(FailureKind::InvalidResponse, "a transaction returned too few results")
    })?
    .integer(0)
}

fn read_session_record(row: &Row) -> Result<Option<SessionRecord>, StoreError> {
    let (Some(_), Some(status), Some(scopes)) =
        (row.optional_text(0)?, row.optional_text(10)?, row.optional_text(11)?)
    else {
        return Ok(None);
    };
    let session = read_session(row)?;
    let revoked_at = row.optional_integer(13)?.map(UnixMillis);
    let tenant = TenantSnapshot {
        id: session.tenant_id.clone(),
        name: row.text(8)?.into(),
        plan: row.text(9)?.into(),
        status: parse_status(status)?,
    };
    let key = KeyRecord {
        key_id: (&session.key_id).into(),
        tenant: tenant.into(),
        scopes: read_scopes(scopes, revoked_at)?.into(),
        allowed_networks: read_networks(row.text(18)?, revoked_at)?,
        expires_at: row.optional_integer(12)?.map(UnixMillis).into(),
        revoked_at: revoked_at.into(),
        last_used_at: OptionalMillis::NONE,
        is_disabled: row.optional_integer(17)?.is_some(),
    };
    Ok(Some(SessionRecord { session: session.into(), key, unbound: false }))
}

fn read_session(row: &Row) -> Result<Session, StoreError> {
    let millis = u64::try_from(row.integer(5)?).map_err(|_| unreadable_value("time to live"))?;
    let attributes: BTreeMap<String, String> =
        serde_json::from_str(row.text(7)?).map_err(|_| unreadable_value("set of attributes"))?;
    Ok(Session {
        id: SessionId::parse(row.text(0)?).map_err(|_| unreadable_value("session id"))?,
        tenant_id: TenantId::parse(row.text(1)?).map_err(|_| unreadable_value("tenant id"))?,
        key_id: KeyId::parse(row.text(2)?).map_err(|_| unreadable_value("key id"))?,
        created_at: UnixMillis(row.integer(3)?),
        expires_at: UnixMillis(row.integer(4)?),
        expiry: if row.integer(6)? == 1 { SessionExpiry::Sliding } else { SessionExpiry::Fixed },
        ttl: Ttl::from_stored(Duration::from_millis(millis)),
        attributes: Attributes::from_stored(attributes).map_err(|_| unreadable_value("set of attributes"))?,
    })
}
