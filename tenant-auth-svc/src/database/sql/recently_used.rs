//! The recently used keys.

use std::time::Duration;

use super::{
    Engine, RecordTable, UnreadableRecords,
    identity::read_identity,
    lookup::{IDENTITY_COLUMN, KEY_ID_COLUMN, REVISION_COLUMN, read_key_record, to_json},
    millis,
    rows::unreadable_value,
};
use crate::{
    database::engine::{Row, Statement},
    domain::{
        clock::UnixMillis,
        id::KeyId,
        key::KeyRecord,
        store::{Call, FailureKind, RecentlyUsedCursor, RecentlyUsedKeys, StoreError, StoredDigest},
        verdict::Revision,
    },
};

/// The columns of a lookup, so that both are decoded by the same code; the digest replaces the position.
///
/// One direction and a row value: each page is a range of the index by last use, and reads as many rows as it
/// returns.
const SELECT_RECENTLY_USED: &str = "\
SELECT hex(keys.key_hash), keys.id, keys.tenant_id, tenants.name, tenants.plan, tenants.status, keys.scopes, \
       keys.expires_at, keys.revoked_at, keys.last_used_at, keys.disabled_at, keys.allowed_networks, \
       (SELECT coalesce(max(seq), 0) FROM changes), \
       (SELECT id || ' ' || epoch || ' ' || replaces FROM database_identity) \
FROM (SELECT 1) LEFT JOIN ( \
    SELECT * FROM api_keys \
    WHERE revoked_at IS NULL AND last_used_at IS NOT NULL AND (last_used_at, id) < (?1, ?2) \
      AND typeof(last_used_at) = 'integer' AND typeof(id) = 'text' \
    ORDER BY last_used_at DESC, id DESC LIMIT ?3) AS keys ON TRUE \
LEFT JOIN tenants ON tenants.id = keys.tenant_id \
ORDER BY keys.last_used_at DESC, keys.id DESC";

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
    after: Option<RecentlyUsedCursor>,
    limit: usize,
) -> Result<RecentlyUsedKeys, StoreError> {
    let (at, id) = after.unwrap_or((UnixMillis(i64::MAX), String::new()));
    let statement = Statement::new(SELECT_RECENTLY_USED)
        .bind(at.0)
        .bind(id)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX));
    let rows = engine.query(call, statement).await?;
    let first = rows
        .first()
        .ok_or_else(|| StoreError::new(FailureKind::InvalidResponse, "a page of keys returned no rows"))?;
    let (database, revision) =
        (read_identity(first, IDENTITY_COLUMN)?, Revision(first.integer(REVISION_COLUMN)?));
    let mut page = RecentlyUsedKeys { keys: Vec::with_capacity(rows.len()), next: None, revision, database };
    for row in &rows {
        // The only row of an empty list.
        let Some(id) = row.optional_text(KEY_ID_COLUMN)? else { continue };
        // By the stored values: an unreadable key must neither end the list nor restart it.
        page.next = Some((UnixMillis(row.integer(9)?), id.to_owned()));
        let key = unreadable.check(RecordTable::ApiKeys, (row, KEY_ID_COLUMN), read_key_with_digest(row));
        page.keys.extend(key.ok().flatten());
    }
    if rows.len() < limit {
        page.next = None;
    }
    Ok(page)
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
