//! The one statement on the path of a validation.

use std::sync::LazyLock;

use super::{
    Engine, RecordTable, Row, UnreadableRecords, database_in,
    peppers::{PepperGap, ids, lacking, missing},
    unreadable,
};
use crate::{
    database::engine::Statement,
    domain::{
        clock::UnixMillis,
        id::{KeyId, TenantId},
        key::{KeyHash, KeyRecord, Peppers},
        scope::{Scope, ScopeSet},
        store::{Call, FailureKind, Found, StoreError},
        tenant::TenantStatus,
        verdict::Revision,
    },
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
       (SELECT id || ' ' || epoch || ' ' || replaces FROM database_identity), \
       CASE WHEN tenants.id IS NULL THEN {missing} END \
FROM json_each(?1) AS digests \
LEFT JOIN api_keys AS keys ON keys.key_hash = unhex(digests.value) \
LEFT JOIN tenants ON tenants.id = keys.tenant_id \
ORDER BY digests.key"
    )
});

/// The column of the key's id.
pub(super) const KEY_ID: usize = 1;

pub(super) async fn run<E: Engine>(
    engine: &E,
    peppers: &Peppers,
    (gap, unreadable): (&PepperGap, &UnreadableRecords),
    call: Call,
    hashes: &[KeyHash],
) -> Result<Found<KeyRecord>, StoreError> {
    let rows = engine.query(call, statement(peppers, hashes)?).await?;
    let per_key = peppers.candidate_count();
    let found = decode(&rows, hashes.len() * per_key, per_key, unreadable)?;
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
            return row.optional_text(12).map(Some);
        }
    }
    Ok(None)
}

/// Looks keys up, also within a transaction.
pub(super) fn statement(peppers: &Peppers, hashes: &[KeyHash]) -> Result<Statement, StoreError> {
    let candidates = hashes.iter().flat_map(|hash| peppers.candidates(hash));
    let digests: Vec<String> = candidates.map(|candidate| hex::encode(candidate.digest)).collect();
    Ok(Statement::new(LOOKUP.as_str()).bind(json(&digests)?).bind(ids(peppers)?))
}

/// The one record of a [`statement`] about one key.
pub(super) fn only(
    rows: &[Row],
    peppers: &Peppers,
    unreadable: &UnreadableRecords,
) -> Result<Option<KeyRecord>, StoreError> {
    let per_key = peppers.candidate_count();
    let found = decode(rows, per_key, per_key, unreadable)?.records.pop();
    Ok(found.transpose()?.flatten())
}

/// Whatever is wrong with the frame (how many rows, in which order, how wide) is wrong with the answer as a whole; what is
/// wrong with a record is that record's own.
fn decode(
    rows: &[Row],
    digests: usize,
    per_key: usize,
    unreadable: &UnreadableRecords,
) -> Result<Found<KeyRecord>, StoreError> {
    if rows.len() != digests {
        return Err(StoreError::new(
            FailureKind::Garbled,
            format!("asked for {digests} digests, got {} rows", rows.len()),
        ));
    }
    let mut records = Vec::with_capacity(digests / per_key);
    let mut revision = Revision::default();
    let first =
        rows.first().ok_or_else(|| StoreError::new(FailureKind::Garbled, "no digest was asked for"))?;
    let database = database_in(first, 11)?;
    for (index, candidates) in rows.chunks(per_key).enumerate() {
        let mut found = Ok(None);
        for (offset, row) in candidates.iter().enumerate() {
            if usize::try_from(row.integer(0)?) != Ok(index * per_key + offset) {
                return Err(StoreError::new(FailureKind::Garbled, "rows are out of order"));
            }
            revision = revision.max(Revision(row.integer(10)?));
            if found == Ok(None) {
                found = unreadable.check(RecordTable::ApiKeys, (row, KEY_ID), record(row));
            }
        }
        records.push(found);
    }
    Ok(Found { records, revision, database, doubt: None })
}

pub(super) fn record(row: &Row) -> Result<Option<KeyRecord>, StoreError> {
    let (Some(key_id), Some(status)) = (row.optional_text(1)?, row.optional_text(5)?) else {
        return Ok(None);
    };
    let revoked_at = row.optional_integer(8)?.map(UnixMillis);
    Ok(Some(KeyRecord {
        key_id: KeyId::parse(key_id).map_err(|_| unreadable("key id"))?,
        tenant_id: TenantId::parse(row.text(2)?).map_err(|_| unreadable("tenant id"))?,
        tenant_name: row.text(3)?.into(),
        plan: row.text(4)?.into(),
        tenant_status: status_of(status)?,
        scopes: scopes_of(row.text(6)?, revoked_at)?,
        expires_at: row.optional_integer(7)?.map(UnixMillis),
        revoked_at,
        last_used_at: row.optional_integer(9)?.map(UnixMillis),
    }))
}

pub(super) fn status_of(stored: &str) -> Result<TenantStatus, StoreError> {
    TenantStatus::from_stored(stored).ok_or_else(|| unreadable("tenant status"))
}

/// A key that is revoked allows nothing, whatever it says: so one whose scopes cannot be read can be withdrawn, and seen to be.
pub(super) fn scopes_of(stored: &str, revoked_at: Option<UnixMillis>) -> Result<ScopeSet, StoreError> {
    match parsed_scopes(stored) {
        None if revoked_at.is_some() => Ok(ScopeSet::EMPTY),
        scopes => scopes.ok_or_else(|| unreadable("list of scopes")),
    }
}

fn parsed_scopes(stored: &str) -> Option<ScopeSet> {
    let names: Vec<String> = serde_json::from_str(stored).ok()?;
    let scopes: Result<Vec<_>, _> = names.iter().map(|name| Scope::parse(name)).collect();
    ScopeSet::new(scopes.ok()?).ok()
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|why| StoreError::new(FailureKind::Broken, format!("an argument is no JSON: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::engine::Value;

    fn absent(position: i64) -> Row {
        let mut values = vec![Value::Integer(position)];
        values.extend(std::iter::repeat_n(Value::Null, 9));
        values.extend([Value::Integer(3), "db 1 ".into(), Value::Null]);
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
            "db 1 ".into(),
            Value::Null,
        ])
    }

    fn decoded(rows: &[Row], digests: usize, per_key: usize) -> Result<Found<KeyRecord>, StoreError> {
        decode(rows, digests, per_key, &UnreadableRecords::default())
    }

    #[test]
    fn one_row_per_digest_or_it_is_no_answer() {
        for rows in [vec![], vec![absent(0)], vec![absent(0), absent(1), absent(2)]] {
            assert_eq!(decoded(&rows, 2, 1).unwrap_err().kind, FailureKind::Garbled);
        }
        let swapped = [absent(1), absent(0)];
        assert_eq!(decoded(&swapped, 2, 1).unwrap_err().kind, FailureKind::Garbled);
        let narrow = [Row(vec![Value::Integer(0)])];
        assert_eq!(decoded(&narrow, 1, 1).unwrap_err().kind, FailureKind::Garbled);
    }

    #[test]
    fn any_of_a_keys_digests_finds_it() {
        let rows = [absent(0), absent(1), absent(2), absent(3), absent(4), present(5, "[]")];
        let lookup = decoded(&rows, 6, 3).unwrap();
        let found = lookup.records.into_iter().map(|record| record.unwrap().is_some());
        assert_eq!(found.collect::<Vec<_>>(), [false, true]);
        assert_eq!(lookup.revision, Revision(4));
    }

    #[test]
    fn a_record_that_cannot_be_read_is_an_error_for_itself_and_no_absence() {
        for scopes in ["", "{}", "[1]", "[\"UPPER\"]", "nonsense"] {
            let rows = [present(0, "[]"), present(1, scopes), absent(2), absent(3), present(4, "[]")];
            let records = decoded(&rows, 5, 1).unwrap().records;
            let refused = StoreError::from(records[1].clone().unwrap_err());
            assert_eq!(refused.kind, FailureKind::Garbled, "{scopes}");
            assert!(scopes.is_empty() || !refused.message.contains(scopes), "what is stored is not shown");
            let others: Vec<_> = [0, 2, 3, 4].map(|at| records[at].clone().unwrap().is_some()).into();
            assert_eq!(others, [true, false, false, true], "{scopes}");
        }
    }
}
