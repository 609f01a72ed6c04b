//! The recently used keys.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    Engine, RecordTable, UnreadableRecords,
    identity::read_identity,
    lookup::{IDENTITY_COLUMN, KEY_ID_COLUMN, REVISION_COLUMN, read_key_record, to_json},
    millis,
    rows::{sql_limit, unreadable_value},
};
use crate::{
    database::engine::{Row, SqlValue, Statement},
    domain::{
        clock::UnixMillis,
        id::KeyId,
        identity::DatabaseIdentity,
        key::KeyRecord,
        store::{
            Call, FailureKind, KnownTenants, RecentlyUsedCursor, RecentlyUsedKeys, StoreError, StoredDigest,
            StoredTenant,
        },
        verdict::Revision,
    },
};

/// The columns of a lookup, so that both are decoded by the same code; the digest replaces the position, and the tenant's
/// columns are filled in later. The first row is the state of the database.
///
/// One direction and a row value: each page is a range of the index by last use, and reads as many rows as it
/// returns. A join with the tenants would read one for each key, although most keys share theirs.
const SELECT_RECENTLY_USED: &str = "\
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, (SELECT coalesce(max(seq), 0) FROM changes), \
       (SELECT id || ' ' || epoch || ' ' || replaces FROM database_identity) \
UNION ALL SELECT * FROM ( \
    SELECT hex(key_hash), id, tenant_id, NULL, NULL, NULL, scopes, expires_at, revoked_at, last_used_at, disabled_at, \
           allowed_networks, NULL, NULL FROM api_keys \
    WHERE revoked_at IS NULL AND last_used_at IS NOT NULL AND (last_used_at, id) < (?1, ?2) \
      AND typeof(last_used_at) = 'integer' AND typeof(id) = 'text' \
    ORDER BY last_used_at DESC, id DESC LIMIT ?3)";

/// The columns of the tenant's name, plan and status.
const TENANT_COLUMNS: [usize; 3] = [3, 4, 5];

/// One row per id, in their order, whether the tenant exists or not.
const SELECT_TENANTS: &str = "\
SELECT wanted.value, tenants.name, tenants.plan, tenants.status, \
       (SELECT id || ' ' || epoch || ' ' || replaces FROM database_identity) \
FROM json_each(?1) AS wanted LEFT JOIN tenants ON tenants.id = wanted.value";

/// No trigger fires on this column, so the change log is unaffected.
///
/// The time is computed from the database's clock: the time of a replica whose clock is ahead would be later than all
/// following uses.
const UPDATE_LAST_USED: &str = concat!(
    "UPDATE api_keys SET last_used_at = used.at \
     FROM (SELECT value ->> '$[0]' AS id, ",
    now!(),
    " - (value ->> '$[1]') AS at FROM json_each(?1)) AS used \
     WHERE api_keys.id = used.id AND coalesce(api_keys.last_used_at, 0) < used.at"
);

pub(super) async fn list<E: Engine>(
    engine: &E,
    unreadable: &UnreadableRecords,
    call: Call,
    (after, limit): (Option<RecentlyUsedCursor>, usize),
    tenants: &mut KnownTenants,
) -> Result<RecentlyUsedKeys, StoreError> {
    let (at, id) = after.unwrap_or((UnixMillis(i64::MAX), String::new()));
    let statement = Statement::new(SELECT_RECENTLY_USED).bind(at.0).bind(id).bind(sql_limit(limit));
    let mut rows = engine.query(call, statement).await?;
    let Some((state, rows)) = rows.split_first_mut() else {
        return Err(StoreError::new(FailureKind::InvalidResponse, "a page of keys returned no rows"));
    };
    let (database, revision) =
        (read_identity(state, IDENTITY_COLUMN)?, Revision(state.integer(REVISION_COLUMN)?));
    let unknown: BTreeSet<&str> =
        rows.iter().filter_map(|row| row.text(2).ok()).filter(|id| !tenants.contains(id)).collect();
    if !unknown.is_empty() {
        read_tenants(engine, call, &unknown, &database, tenants).await?;
    }
    let mut page = RecentlyUsedKeys { keys: Vec::with_capacity(rows.len()), next: None, revision, database };
    for row in &mut *rows {
        if let Some(tenant) = row.text(2).ok().and_then(|id| tenants.get(id)) {
            let texts = [&tenant.name, &tenant.plan, &tenant.status];
            for (column, text) in TENANT_COLUMNS.into_iter().zip(texts) {
                if let Some(value) = row.0.get_mut(column) {
                    *value = SqlValue::Text(Arc::clone(text));
                }
            }
        }
        // By the stored values: an unreadable key must neither end the list nor restart it.
        page.next = Some((UnixMillis(row.integer(9)?), row.text(KEY_ID_COLUMN)?.to_owned()));
        let key = unreadable.check(RecordTable::ApiKeys, (row, KEY_ID_COLUMN), read_key_with_digest(row));
        page.keys.extend(key.ok().flatten());
    }
    if rows.len() < limit {
        page.next = None;
    }
    Ok(page)
}

async fn read_tenants<E: Engine>(
    engine: &E,
    call: Call,
    ids: &BTreeSet<&str>,
    database: &DatabaseIdentity,
    tenants: &mut KnownTenants,
) -> Result<(), StoreError> {
    let rows = engine.query(call, Statement::new(SELECT_TENANTS).bind(to_json(ids)?)).await?;
    if rows.len() != ids.len() {
        let message = format!("expected rows for {} tenants, got {}", ids.len(), rows.len());
        return Err(StoreError::new(FailureKind::InvalidResponse, message));
    }
    for row in &rows {
        if read_identity(row, 4)? != *database {
            return Err(StoreError::new(
                FailureKind::InvalidResponse,
                "a page of keys is from two databases",
            ));
        }
        let text = |column| row.optional_text(column).map(|text| text.map(Arc::<str>::from));
        let tenant = match (text(1)?, text(2)?, text(3)?) {
            (Some(name), Some(plan), Some(status)) => Some(StoredTenant { name, plan, status }),
            _ => None,
        };
        tenants.insert(row.text(0)?.into(), tenant);
    }
    Ok(())
}

/// Reads a key and its digest; `None` if its tenant was deleted.
fn read_key_with_digest(row: &Row) -> Result<Option<(StoredDigest, KeyRecord)>, StoreError> {
    let Some(record) = read_key_record(row)? else { return Ok(None) };
    let mut digest = [0; 32];
    hex::decode_to_slice(row.text(0)?, &mut digest).map_err(|_| unreadable_value("digest"))?;
    Ok(Some((digest, record)))
}

pub(super) async fn record_last_used<E: Engine>(
    engine: &E,
    call: Call,
    uses: &[(KeyId, Duration)],
) -> Result<(), StoreError> {
    let uses: Vec<_> = uses.iter().map(|(id, ago)| (id.as_str(), millis(*ago))).collect();
    engine.transaction(call, vec![Statement::new(UPDATE_LAST_USED).bind(to_json(&uses)?)]).await?;
    Ok(())
}
