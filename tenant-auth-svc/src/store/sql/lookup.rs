//! The one statement on the path of a validation.

use std::sync::LazyLock;

use super::{
    Engine, Row,
    peppers::{PepperGap, ids, lacking, missing},
    unreadable,
};
use crate::{
    domain::{
        clock::UnixMillis,
        id::{KeyId, TenantId},
        key::{KeyHash, KeyRecord, Peppers},
        scope::{Scope, ScopeSet},
        store::{Call, FailureKind, Found, StoreError},
        tenant::TenantStatus,
        verdict::Revision,
    },
    store::engine::Statement,
};

/// Gives exactly one row per digest, whether there is such a key or not, so that a cut-off answer cannot be taken
/// for an absence. A key whose tenant was deleted counts as absent: there is nobody it could belong to.
///
/// Where there is none, the row tells of a pepper that this replica lacks, if live keys are stored under one: then it may be
/// one of those. That is asked once per statement, and not at all where everything is found.
static LOOKUP: LazyLock<String> = LazyLock::new(|| {
    let missing = missing("?2");
    format!(
        "\
SELECT digests.key, keys.id, keys.tenant_id, tenants.name, tenants.plan, tenants.status, keys.scopes, \
       keys.expires_at, keys.revoked_at, keys.last_used_at, (SELECT coalesce(max(seq), 0) FROM changes), \
       CASE WHEN tenants.id IS NULL THEN {missing} END \
FROM json_each(?1) AS digests \
LEFT JOIN api_keys AS keys ON keys.key_hash = unhex(digests.value) \
LEFT JOIN tenants ON tenants.id = keys.tenant_id \
ORDER BY digests.key"
    )
});

pub(super) async fn run<E: Engine>(
    engine: &E,
    peppers: &Peppers,
    gap: &PepperGap,
    call: Call,
    hashes: &[KeyHash],
) -> Result<Found<KeyRecord>, StoreError> {
    let digests: Vec<String> = hashes
        .iter()
        .flat_map(|hash| peppers.candidates(hash))
        .map(|candidate| hex::encode(candidate.digest))
        .collect();
    let statement = Statement::new(LOOKUP.as_str()).bind(json(&digests)?).bind(ids(peppers)?);
    let rows = engine.query(call, statement).await?;
    let found = decode(&rows, digests.len(), peppers.candidate_count())?;
    let missing = missing_pepper(&rows)?;
    if let Some(missing) = missing {
        gap.note(missing, peppers);
    }
    Ok(Found { doubt: missing.flatten().map(lacking), ..found })
}

/// The pepper that is in use and not known, if there is one; `None` where it was not asked for, since nothing was missed.
fn missing_pepper(rows: &[Row]) -> Result<Option<Option<&str>>, StoreError> {
    for row in rows {
        if row.optional_text(5)?.is_none() {
            return row.optional_text(11).map(Some);
        }
    }
    Ok(None)
}

fn decode(rows: &[Row], digests: usize, per_key: usize) -> Result<Found<KeyRecord>, StoreError> {
    if rows.len() != digests {
        return Err(StoreError::new(
            FailureKind::Garbled,
            format!("asked for {digests} digests, got {} rows", rows.len()),
        ));
    }
    let mut records = Vec::with_capacity(digests / per_key);
    let mut revision = Revision::default();
    for (index, candidates) in rows.chunks(per_key).enumerate() {
        let mut found = None;
        for (offset, row) in candidates.iter().enumerate() {
            if usize::try_from(row.integer(0)?) != Ok(index * per_key + offset) {
                return Err(StoreError::new(FailureKind::Garbled, "rows are out of order"));
            }
            revision = revision.max(Revision(row.integer(10)?));
            if found.is_none() {
                found = record(row)?;
            }
        }
        records.push(found);
    }
    Ok(Found { records, revision, doubt: None })
}

pub(super) fn record(row: &Row) -> Result<Option<KeyRecord>, StoreError> {
    let (Some(key_id), Some(status)) = (row.optional_text(1)?, row.optional_text(5)?) else {
        return Ok(None);
    };
    Ok(Some(KeyRecord {
        key_id: KeyId::parse(key_id).map_err(|why| unreadable("key id", why))?,
        tenant_id: TenantId::parse(row.text(2)?).map_err(|why| unreadable("tenant id", why))?,
        tenant_name: row.text(3)?.into(),
        plan: row.text(4)?.into(),
        tenant_status: status_of(status)?,
        scopes: scopes_of(row.text(6)?)?,
        expires_at: row.optional_integer(7)?.map(UnixMillis),
        revoked_at: row.optional_integer(8)?.map(UnixMillis),
        last_used_at: row.optional_integer(9)?.map(UnixMillis),
    }))
}

pub(super) fn status_of(stored: &str) -> Result<TenantStatus, StoreError> {
    TenantStatus::from_stored(stored).ok_or_else(|| unreadable("tenant status", stored))
}

pub(super) fn scopes_of(stored: &str) -> Result<ScopeSet, StoreError> {
    let names: Vec<String> = serde_json::from_str(stored).map_err(|why| unreadable("list of scopes", why))?;
    let scopes: Result<Vec<_>, _> = names.iter().map(|name| Scope::parse(name)).collect();
    scopes.and_then(ScopeSet::new).map_err(|why| unreadable("list of scopes", why))
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|why| StoreError::new(FailureKind::Broken, format!("an argument is no JSON: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::engine::Value;

    fn absent(position: i64) -> Row {
        let mut values = vec![Value::Integer(position)];
        values.extend(std::iter::repeat_n(Value::Null, 9));
        values.extend([Value::Integer(3), Value::Null]);
        Row(values)
    }

    fn present(position: i64, scopes: &str) -> Row {
        Row(vec![
            Value::Integer(position),
            "key_1".into(),
            "ten_1".into(),
            "Acme".into(),
            "pro".into(),
            "active".into(),
            scopes.into(),
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Integer(4),
            Value::Null,
        ])
    }

    #[test]
    fn one_row_per_digest_or_it_is_no_answer() {
        for rows in [vec![], vec![absent(0)], vec![absent(0), absent(1), absent(2)]] {
            assert_eq!(decode(&rows, 2, 1).unwrap_err().kind, FailureKind::Garbled);
        }
        let swapped = [absent(1), absent(0)];
        assert_eq!(decode(&swapped, 2, 1).unwrap_err().kind, FailureKind::Garbled);
    }

    #[test]
    fn any_of_a_keys_digests_finds_it() {
        let rows = [absent(0), absent(1), absent(2), absent(3), absent(4), present(5, "[]")];
        let lookup = decode(&rows, 6, 3).unwrap();
        assert_eq!(lookup.records.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true]);
        assert_eq!(lookup.revision, Revision(4));
    }

    #[test]
    fn a_record_that_cannot_be_read_is_no_absence() {
        for scopes in ["", "{}", "[1]", "[\"UPPER\"]", "nonsense"] {
            let refused = decode(&[present(0, scopes)], 1, 1).unwrap_err();
            assert_eq!(refused.kind, FailureKind::Garbled, "{scopes}");
        }
    }
}
