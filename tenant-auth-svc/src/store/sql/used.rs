//! Which keys are in use.

use super::{
    Engine, database_in,
    lookup::{json, record},
    unreadable,
};
use crate::{
    domain::{
        clock::UnixMillis,
        id::KeyId,
        store::{Call, InUse, StoreError},
        verdict::Revision,
    },
    store::engine::Statement,
};

/// The columns of a lookup, so that both are read by the same code; the digest takes the place of the position.
const IN_USE: &str = "\
SELECT hex(keys.key_hash), keys.id, keys.tenant_id, tenants.name, tenants.plan, tenants.status, keys.scopes, \
       keys.expires_at, keys.revoked_at, keys.last_used_at, (SELECT coalesce(max(seq), 0) FROM changes), \
       (SELECT id || ' ' || epoch FROM database_identity) \
FROM (SELECT 1) LEFT JOIN ( \
    SELECT * FROM api_keys \
    WHERE revoked_at IS NULL AND last_used_at IS NOT NULL AND tenant_id IN (SELECT id FROM tenants) \
      AND (last_used_at < ?1 OR (last_used_at = ?1 AND id > ?2)) \
    ORDER BY last_used_at DESC, id LIMIT ?3) AS keys ON TRUE \
LEFT JOIN tenants ON tenants.id = keys.tenant_id \
ORDER BY keys.last_used_at DESC, keys.id";

/// No trigger listens to this column, so the change log stays as it is.
const NOTE: &str = "\
UPDATE api_keys SET last_used_at = used.at \
FROM (SELECT value ->> '$[0]' AS id, value ->> '$[1]' AS at FROM json_each(?1)) AS used \
WHERE api_keys.id = used.id AND coalesce(api_keys.last_used_at, 0) < used.at";

pub(super) async fn list<E: Engine>(
    engine: &E,
    call: Call,
    after: Option<(UnixMillis, KeyId)>,
    limit: usize,
) -> Result<InUse, StoreError> {
    let (at, id) = after.map_or((i64::MAX, String::new()), |(at, id)| (at.0, id.as_str().to_owned()));
    let statement = Statement::new(IN_USE).bind(at).bind(id).bind(i64::try_from(limit).unwrap_or(i64::MAX));
    let rows = engine.query(call, statement).await?;
    let first = rows.first().ok_or_else(|| unreadable("page of keys", "it has no row"))?;
    let (database, revision) = (database_in(first, 11)?, Revision(first.integer(10)?));
    let mut in_use = InUse { keys: Vec::with_capacity(rows.len()), revision, database };
    for row in &rows {
        // The one row of an empty list.
        let Some(record) = record(row)? else { continue };
        let mut digest = [0; 32];
        hex::decode_to_slice(row.text(0)?, &mut digest).map_err(|why| unreadable("digest", why))?;
        in_use.keys.push((digest, record));
    }
    Ok(in_use)
}

pub(super) async fn note<E: Engine>(
    engine: &E,
    call: Call,
    uses: &[(KeyId, UnixMillis)],
) -> Result<(), StoreError> {
    let uses: Vec<_> = uses.iter().map(|(id, at)| (id.as_str(), at.0)).collect();
    engine.transaction(call, vec![Statement::new(NOTE).bind(json(&uses)?)]).await?;
    Ok(())
}
