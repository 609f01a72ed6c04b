//! Writes of keys. Each is one transaction that may run twice with the same result.

use serde::Serialize;
use serde_json::json;

use super::{
    Engine, UnreadableRecords,
    audit::audit_statement,
    import_outcomes,
    keys::{select_key, single_key},
    lookup::{self, to_json},
    millis,
    peppers::{known_ids_json, missing_pepper_sql},
    transaction::{commit, last_rows},
};
use crate::{
    database::engine::{SqlValue, Statement},
    domain::{
        audit::AuditAction,
        id::KeyId,
        key::{
            ApiKey, ImportOutcome, KeyRecord, KeyToImport, NewKey, Peppers, Rotation, RotationOutcome,
            StoredHash, SuccessorExpiry,
        },
        network::AllowedNetworks,
        scope::ScopeSet,
        store::{Call, Change, Committed, StoreError},
        text::Reason,
    },
};

pub(super) async fn insert<E: Engine>(
    (engine, peppers, unreadable): (&E, &Peppers, &UnreadableRecords),
    call: Call,
    key: &NewKey,
    reason: Option<&Reason>,
    change: &Change,
) -> Result<Committed<Option<(ApiKey, KeyRecord)>>, StoreError> {
    let stored = peppers.stored_hash(&key.hash);
    let insert = Statement::new(
        "INSERT INTO api_keys (key_hash, id, tenant_id, name, prefix_hint, scopes, pepper_id, created_at, expires_at, \
                               allowed_networks) \
         SELECT ?1, ?2, id, ?4, ?5, ?6, ?7, ?8, ?9, ?10 FROM tenants WHERE id = ?3 AND deletion_started_at IS NULL \
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(digest_value(&stored))
    .bind(key.id.as_str())
    .bind(key.tenant_id.as_str())
    .bind(key.name.as_str())
    .bind(key.prefix_hint.as_str())
    .bind(scopes_json(&key.scopes)?)
    .bind(pepper_id(&stored))
    .bind(change.at.0)
    .bind(key.expires_at.map(|at| at.0))
    .bind(networks_json(&key.allowed_networks)?);
    let name = key.name.as_str();
    let detail = reason.map(|reason| json!({ "name": name, "reason": reason.as_str() }).to_string());
    let detail = detail.as_deref().unwrap_or(name);
    let audit =
        audit_statement(change, AuditAction::KeyIssue, key.id.as_str(), key.tenant_id.as_str(), detail);
    let found = lookup::lookup_statement(peppers, std::slice::from_ref(&key.hash))?;
    let Committed { outcome: mut results, revision } =
        commit(engine, call, vec![insert, audit, select_key(&key.id), found]).await?;
    let record = lookup::single_record(&results.pop().unwrap_or_default(), peppers, unreadable)?;
    let key = single_key(&results.pop().unwrap_or_default())?;
    Ok(Committed { outcome: key.zip(record), revision })
}

pub(super) async fn rotate<E: Engine>(
    engine: &E,
    peppers: &Peppers,
    unreadable: &UnreadableRecords,
    call: Call,
    rotation: &Rotation,
    change: &Change,
) -> Result<Committed<RotationOutcome>, StoreError> {
    let stored = peppers.stored_hash(&rotation.hash);
    let successor = Statement::new(concat!(
        "INSERT INTO api_keys (key_hash, id, tenant_id, name, prefix_hint, scopes, pepper_id, created_at, expires_at, \
                               allowed_networks) \
         SELECT ?1, ?2, tenant_id, name, ?4, scopes, ?5, ?6, iif(?8, expires_at, ?7), allowed_networks FROM api_keys \
         WHERE id = ?3 AND revoked_at IS NULL AND replaced_by IS NULL AND disabled_at IS NULL \
           AND (expires_at IS NULL OR expires_at > ",
        now!(),
        ") ON CONFLICT (id) DO NOTHING"
    ))
    .bind(digest_value(&stored))
    .bind(rotation.id.as_str())
    .bind(rotation.old.as_str())
    .bind(rotation.prefix_hint.as_str())
    .bind(pepper_id(&stored))
    .bind(change.at.0)
    .bind(match rotation.expires_at {
        SuccessorExpiry::At(at) => Some(at.0),
        SuccessorExpiry::Kept | SuccessorExpiry::Never => None,
    })
    .bind(i64::from(rotation.expires_at == SuccessorExpiry::Kept));
    // Only if the successor exists, and never to a later expiry than the key had before.
    let expire_old = Statement::new(concat!(
        "UPDATE api_keys SET replaced_by = ?2, expires_at = coalesce(min(expires_at, ",
        now!(),
        " + ?3), ",
        now!(),
        " + ?3) WHERE id = ?1 AND replaced_by IS NULL \
           AND EXISTS (SELECT 1 FROM api_keys AS new WHERE new.id = ?2 AND new.tenant_id = api_keys.tenant_id)"
    ))
    .bind(rotation.old.as_str())
    .bind(rotation.id.as_str())
    .bind(millis(rotation.overlap));
    let successor_id = rotation.id.as_str();
    let detail = match &rotation.reason {
        Some(reason) => json!({ "replaced_by": successor_id, "reason": reason.as_str() }).to_string(),
        None => format!("replaced by {successor_id}"),
    };
    let audit =
        audit_statement(change, AuditAction::KeyRotate, rotation.old.as_str(), SqlValue::Null, &detail);
    let found = lookup::lookup_statement(peppers, std::slice::from_ref(&rotation.hash))?;
    let steps =
        vec![successor, expire_old, audit, found, select_key(&rotation.id), select_key(&rotation.old)];

    let Committed { outcome: mut results, revision } = commit(engine, call, steps).await?;
    let old = results.pop().map(|rows| single_key(&rows)).transpose()?.flatten();
    let new = results.pop().map(|rows| single_key(&rows)).transpose()?.flatten();
    let record = lookup::single_record(&results.pop().unwrap_or_default(), peppers, unreadable)?;
    let outcome = match (new.zip(record), old) {
        (Some((new, record)), Some(old)) => {
            RotationOutcome::Done { new: Box::new(new), old: Box::new(old), record: Box::new(record) }
        }
        (None, Some(old)) => RotationOutcome::Refused(Box::new(old)),
        (_, None) => RotationOutcome::NoSuchKey,
    };
    Ok(Committed { outcome, revision })
}

pub(super) async fn revoke<E: Engine>(
    engine: &E,
    call: Call,
    id: &KeyId,
    reason: &Reason,
    change: &Change,
) -> Result<Committed<Option<ApiKey>>, StoreError> {
    let update = Statement::new(
        "UPDATE api_keys SET revoked_at = ?2, revoke_reason = ?3 WHERE id = ?1 AND revoked_at IS NULL",
    )
    .bind(id.as_str())
    .bind(change.at.0)
    .bind(reason.as_str());
    let audit = audit_statement(change, AuditAction::KeyRevoke, id.as_str(), SqlValue::Null, reason.as_str());
    let Committed { outcome: results, revision } =
        commit(engine, call, vec![update, audit, select_key(id)]).await?;
    Ok(Committed { outcome: single_key(&last_rows(results)?)?, revision })
}

/// A key to import, as the import statements read it.
#[derive(Serialize)]
struct ImportRow<'a> {
    /// The digest to store.
    digest: String,
    /// Every digest under which the key may be stored already.
    known_as: Vec<String>,
    id: &'a str,
    tenant_id: &'a str,
    name: &'a str,
    prefix_hint: &'a str,
    scopes: Vec<&'a str>,
    allowed_networks: Vec<String>,
    pepper_id: Option<String>,
    created_at: i64,
    expires_at: Option<i64>,
}

pub(super) async fn import<E: Engine>(
    engine: &E,
    peppers: &Peppers,
    unreadable: &UnreadableRecords,
    call: Call,
    keys: &[KeyToImport],
    change: &Change,
) -> Result<Committed<Vec<ImportOutcome>>, StoreError> {
    let rows: Vec<_> = keys.iter().map(|import| import_row(peppers, import, change)).collect();
    let rows: SqlValue = to_json(&rows)?.into();
    // `imports.value`: a bare `value` would be that of `known`. A key that exists already may be stored under a
    // pepper that this replica lacks; then this replica cannot find it.
    let (missing, known) = (missing_pepper_sql("?2"), known_ids_json(peppers)?);
    let insert = Statement::new(format!(
        "INSERT INTO api_keys (key_hash, id, tenant_id, name, prefix_hint, scopes, pepper_id, created_at, expires_at, \
                               allowed_networks) \
         SELECT unhex(value ->> 'digest'), value ->> 'id', tenants.id, value ->> 'name', value ->> 'prefix_hint', \
                value -> 'scopes', value ->> 'pepper_id', value ->> 'created_at', value ->> 'expires_at', \
                value -> 'allowed_networks' \
         FROM json_each(?1) AS imports JOIN tenants ON tenants.id = value ->> 'tenant_id' \
                                                   AND tenants.deletion_started_at IS NULL \
         WHERE NOT EXISTS (SELECT 1 FROM json_each(imports.value -> 'known_as') AS known \
                           JOIN api_keys ON key_hash = unhex(known.value)) \
           AND {missing} IS NULL \
         ON CONFLICT DO NOTHING"
    ))
    .bind(rows.clone())
    .bind(known.as_str());
    // Not by changes(): a repeated run must find the entries of the first.
    let audit = Statement::new(
        "INSERT INTO audit_log (at, caller, action, target, tenant_id, request_id, detail) \
         SELECT ?2, ?3, ?4, api_keys.id, api_keys.tenant_id, ?5, api_keys.name \
         FROM json_each(?1) JOIN api_keys ON api_keys.id = value ->> 'id' \
         WHERE NOT EXISTS (SELECT 1 FROM audit_log WHERE target = api_keys.id AND action = ?4)",
    )
    .bind(rows.clone())
    .bind(change.at.0)
    .bind(change.actor.caller.as_str())
    .bind(AuditAction::KeyImport.as_str())
    .bind(change.actor.request_id.as_str());
    let holders = import_outcomes::select_holders(rows, known);

    let Committed { outcome: results, revision } = commit(engine, call, vec![insert, audit, holders]).await?;
    let outcome = import_outcomes::read_outcomes(unreadable, keys, &last_rows(results)?)?;
    Ok(Committed { outcome, revision })
}

fn import_row<'a>(peppers: &Peppers, import: &'a KeyToImport, change: &Change) -> ImportRow<'a> {
    let key = &import.key;
    let stored = peppers.stored_hash(&key.hash);
    ImportRow {
        digest: hex::encode(stored.digest),
        known_as: peppers.candidates(&key.hash).map(|known| hex::encode(known.digest)).collect(),
        id: key.id.as_str(),
        tenant_id: key.tenant_id.as_str(),
        name: key.name.as_str(),
        prefix_hint: key.prefix_hint.as_str(),
        scopes: key.scopes.iter().collect(),
        allowed_networks: network_texts(&key.allowed_networks),
        pepper_id: pepper_id(&stored),
        created_at: import.created_at.unwrap_or(change.at).0,
        expires_at: key.expires_at.map(|at| at.0),
    }
}

fn digest_value(stored: &StoredHash) -> SqlValue {
    SqlValue::Blob(bytes::Bytes::copy_from_slice(&stored.digest))
}

fn pepper_id(stored: &StoredHash) -> Option<String> {
    stored.pepper.as_ref().map(|pepper| pepper.as_str().to_owned())
}

fn network_texts(networks: &AllowedNetworks) -> Vec<String> {
    networks.iter().map(ToString::to_string).collect()
}

pub(super) fn networks_json(networks: &AllowedNetworks) -> Result<String, StoreError> {
    to_json(&network_texts(networks))
}

pub(super) fn scopes_json(scopes: &ScopeSet) -> Result<String, StoreError> {
    let names: Vec<_> = scopes.iter().collect();
    to_json(&names)
}
