//! The only statement on the path of a validation.

use std::sync::LazyLock;

use super::{
    Engine, RecordTable, Row, UnreadableRecords,
    identity::read_identity,
    peppers::{MissingPepper, known_ids_json, missing_pepper_sql, pepper_missing_error},
    rows::unreadable_value,
};
use crate::{
    database::engine::Statement,
    domain::{
        clock::UnixMillis,
        id::{KeyId, TenantId},
        key::{KeyHash, KeyRecord, Peppers},
        network::AllowedNetworks,
        scope::{Scope, ScopeSet},
        store::{Call, FailureKind, LookupResult, StoreError},
        tenant::{TenantSnapshot, TenantStatus},
        verdict::Revision,
    },
};

/// Returns exactly one row per digest, in their order, whether the key exists or not, so that a truncated response cannot be taken
/// for a negative result. A key whose tenant was deleted counts as not found.
///
/// For a digest without a key, the row names a pepper that this replica lacks, if live keys are stored under one: the
/// key may be one of those. That is evaluated once per statement, and not at all if everything is found.
static LOOKUP_SQL: LazyLock<String> = LazyLock::new(|| {
    let missing = missing_pepper_sql("?2");
    format!(
        "\
SELECT digests.key, keys.id, keys.tenant_id, tenants.name, tenants.plan, tenants.status, keys.scopes, \
       keys.expires_at, keys.revoked_at, keys.last_used_at, keys.disabled_at, keys.allowed_networks, \
       (SELECT coalesce(max(seq), 0) FROM changes), \
       (SELECT id || ' ' || epoch || ' ' || replaces FROM database_identity), \
       CASE WHEN tenants.id IS NULL THEN {missing} END \
FROM json_each(?1) AS digests \
LEFT JOIN api_keys AS keys ON keys.key_hash = unhex(digests.value) \
LEFT JOIN tenants ON tenants.id = keys.tenant_id"
    )
});

/// The column of the key's id.
pub(super) const KEY_ID_COLUMN: usize = 1;
/// The column of the change log's end.
pub(super) const REVISION_COLUMN: usize = 12;
/// The column of the database's identity.
pub(super) const IDENTITY_COLUMN: usize = 13;
/// The column of a pepper that this replica lacks.
const MISSING_PEPPER_COLUMN: usize = 14;

pub(super) async fn run<E: Engine>(
    engine: &E,
    peppers: &Peppers,
    (missing_pepper_state, unreadable): (&MissingPepper, &UnreadableRecords),
    call: Call,
    hashes: &[KeyHash],
) -> Result<LookupResult<KeyRecord>, StoreError> {
    let rows = engine.query(call, lookup_statement(peppers, hashes)?).await?;
    let per_key = peppers.candidate_count();
    let found = decode(&rows, hashes.len() * per_key, per_key, unreadable)?;
    let missing = missing_pepper(&rows)?;
    if let Some(missing) = missing {
        missing_pepper_state.update(missing, peppers);
    }
    Ok(LookupResult { not_found_error: missing.flatten().map(pepper_missing_error), ..found })
}

/// Returns the pepper that is used but unknown, if any; the outer `None` if it was not evaluated, because everything
/// was found.
fn missing_pepper(rows: &[Row]) -> Result<Option<Option<&str>>, StoreError> {
    for row in rows {
        if row.optional_text(5)?.is_none() {
            return row.optional_text(MISSING_PEPPER_COLUMN).map(Some);
        }
    }
    Ok(None)
}

/// Looks keys up, also within a transaction.
pub(super) fn lookup_statement(peppers: &Peppers, hashes: &[KeyHash]) -> Result<Statement, StoreError> {
    let candidates = hashes.iter().flat_map(|hash| peppers.candidates(hash));
    let digests: Vec<String> = candidates.map(|candidate| hex::encode(candidate.digest)).collect();
    Ok(Statement::new(LOOKUP_SQL.as_str()).bind(to_json(&digests)?).bind(known_ids_json(peppers)?))
}

/// Decodes the only record of a [`lookup_statement`] for one key.
pub(super) fn single_record(
    rows: &[Row],
    peppers: &Peppers,
    unreadable: &UnreadableRecords,
) -> Result<Option<KeyRecord>, StoreError> {
    let per_key = peppers.candidate_count();
    let found = decode(rows, per_key, per_key, unreadable)?.records.pop();
    Ok(found.transpose()?.flatten())
}

/// An error in the frame (number, order or width of rows) invalidates the whole response; an error in a record
/// affects only that record.
fn decode(
    rows: &[Row],
    digests: usize,
    per_key: usize,
    unreadable: &UnreadableRecords,
) -> Result<LookupResult<KeyRecord>, StoreError> {
    if rows.len() != digests {
        return Err(StoreError::new(
            FailureKind::InvalidResponse,
            format!("expected rows for {digests} digests, got {}", rows.len()),
        ));
    }
    let mut records = Vec::with_capacity(digests / per_key);
    let mut revision = Revision::default();
    let first = rows
        .first()
        .ok_or_else(|| StoreError::new(FailureKind::InvalidResponse, "no digest was requested"))?;
    let database = read_identity(first, IDENTITY_COLUMN)?;
    for (index, candidates) in rows.chunks(per_key).enumerate() {
        let mut found = Ok(None);
        for (offset, row) in candidates.iter().enumerate() {
            if usize::try_from(row.integer(0)?) != Ok(index * per_key + offset) {
                return Err(StoreError::new(FailureKind::InvalidResponse, "rows are out of order"));
            }
            revision = revision.max(Revision(row.integer(REVISION_COLUMN)?));
            if found == Ok(None) {
                found = unreadable.check(RecordTable::ApiKeys, (row, KEY_ID_COLUMN), read_key_record(row));
            }
        }
        records.push(found);
    }
    Ok(LookupResult { records, revision, database, not_found_error: None })
}

pub(super) fn read_key_record(row: &Row) -> Result<Option<KeyRecord>, StoreError> {
    let (Some(key_id), Some(status)) = (row.optional_text(1)?, row.optional_text(5)?) else {
        return Ok(None);
    };
    let revoked_at = row.optional_integer(8)?.map(UnixMillis);
    let key_id = KeyId::parse(key_id).map_err(|_| unreadable_value("key id"))?;
    let tenant = TenantSnapshot {
        id: TenantId::parse(row.text(2)?).map_err(|_| unreadable_value("tenant id"))?,
        name: row.text(3)?.into(),
        plan: row.text(4)?.into(),
        status: parse_status(status)?,
    };
    Ok(Some(KeyRecord {
        key_id: key_id.into(),
        tenant: tenant.into(),
        scopes: read_scopes(row.text(6)?, revoked_at)?.into(),
        allowed_networks: read_networks(row.text(11)?, revoked_at)?,
        expires_at: row.optional_integer(7)?.map(UnixMillis).into(),
        revoked_at: revoked_at.into(),
        last_used_at: row.optional_integer(9)?.map(UnixMillis).into(),
        is_disabled: row.optional_integer(10)?.is_some(),
    }))
}

pub(super) fn parse_status(stored: &str) -> Result<TenantStatus, StoreError> {
    TenantStatus::from_stored(stored).ok_or_else(|| unreadable_value("tenant status"))
}

/// A revoked key allows nothing, whatever its scopes: so a key with unreadable scopes can be revoked, and be shown as
/// revoked.
pub(super) fn read_scopes(stored: &str, revoked_at: Option<UnixMillis>) -> Result<ScopeSet, StoreError> {
    match parse_scopes(stored) {
        None if revoked_at.is_some() => Ok(ScopeSet::EMPTY),
        scopes => scopes.ok_or_else(|| unreadable_value("list of scopes")),
    }
}

fn parse_scopes(stored: &str) -> Option<ScopeSet> {
    let names: Vec<String> = serde_json::from_str(stored).ok()?;
    let scopes: Result<Vec<_>, _> = names.iter().map(|name| Scope::parse(name)).collect();
    ScopeSet::new(scopes.ok()?).ok()
}

/// As for scopes: a revoked key may be used from nowhere, whatever its networks.
pub(super) fn read_networks(
    stored: &str,
    revoked_at: Option<UnixMillis>,
) -> Result<AllowedNetworks, StoreError> {
    // Most keys have none, and this is on the path of every cold validation.
    if stored == "[]" {
        return Ok(AllowedNetworks::EVERYWHERE);
    }
    let texts: Option<Vec<String>> = serde_json::from_str(stored).ok();
    match texts.and_then(|texts| AllowedNetworks::parse(&texts).ok()) {
        None if revoked_at.is_some() => Ok(AllowedNetworks::EVERYWHERE),
        networks => networks.ok_or_else(|| unreadable_value("list of networks")),
    }
}

pub(super) fn to_json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| {
        StoreError::new(FailureKind::Internal, format!("cannot encode an argument as JSON: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::engine::SqlValue;

    fn missing_row(position: i64) -> Row {
        let mut values = vec![SqlValue::Integer(position)];
        values.extend(std::iter::repeat_n(SqlValue::Null, 11));
        values.extend([SqlValue::Integer(3), "db 1 ".into(), SqlValue::Null]);
        Row(values)
    }

    fn found_row(position: i64, scopes: &str) -> Row {
        found_row_with_networks(position, scopes, "[]")
    }

    fn found_row_with_networks(position: i64, scopes: &str, networks: &str) -> Row {
        Row(vec![
            SqlValue::Integer(position),
            "key_1".into(),
            "ten_1".into(),
            "Acme".into(),
            "pro".into(),
            "active".into(),
            scopes.into(),
            SqlValue::Null,
            SqlValue::Null,
            SqlValue::Null,
            SqlValue::Null,
            networks.into(),
            SqlValue::Integer(4),
            "db 1 ".into(),
            SqlValue::Null,
        ])
    }

    fn decode_rows(
        rows: &[Row],
        digests: usize,
        per_key: usize,
    ) -> Result<LookupResult<KeyRecord>, StoreError> {
        decode(rows, digests, per_key, &UnreadableRecords::default())
    }

    #[test]
    fn key_lookup_requires_one_row_per_digest() {
        for rows in [vec![], vec![missing_row(0)], vec![missing_row(0), missing_row(1), missing_row(2)]] {
            assert_eq!(decode_rows(&rows, 2, 1).unwrap_err().kind, FailureKind::InvalidResponse);
        }
        let swapped = [missing_row(1), missing_row(0)];
        assert_eq!(decode_rows(&swapped, 2, 1).unwrap_err().kind, FailureKind::InvalidResponse);
        let narrow = [Row(vec![SqlValue::Integer(0)])];
        assert_eq!(decode_rows(&narrow, 1, 1).unwrap_err().kind, FailureKind::InvalidResponse);
    }

    #[test]
    fn key_is_found_by_any_of_its_digests() {
        let rows = [
            missing_row(0),
            missing_row(1),
            missing_row(2),
            missing_row(3),
            missing_row(4),
            found_row(5, "[]"),
        ];
        let lookup = decode_rows(&rows, 6, 3).unwrap();
        let found = lookup.records.into_iter().map(|record| record.unwrap().is_some());
        assert_eq!(found.collect::<Vec<_>>(), [false, true]);
        assert_eq!(lookup.revision, Revision(4));
    }

    #[test]
    fn unreadable_record_fails_alone_and_is_not_negative() {
        for scopes in ["", "{}", "[1]", "[\"UPPER\"]", "nonsense"] {
            let rows = [
                found_row(0, "[]"),
                found_row(1, scopes),
                missing_row(2),
                missing_row(3),
                found_row(4, "[]"),
            ];
            let records = decode_rows(&rows, 5, 1).unwrap().records;
            let error = StoreError::from(records[1].clone().unwrap_err());
            assert_eq!(error.kind, FailureKind::InvalidResponse, "{scopes}");
            assert!(scopes.is_empty() || !error.message.contains(scopes), "the stored value is not shown");
            let others: Vec<_> = [0, 2, 3, 4].map(|at| records[at].clone().unwrap().is_some()).into();
            assert_eq!(others, [true, false, false, true], "{scopes}");
        }
    }

    #[test]
    fn key_with_unreadable_networks_is_not_usable_everywhere() {
        for networks in ["", "{}", "[1]", "[\"office\"]", "[\"10.0.0.1/8\"]", "null"] {
            let record =
                decode_rows(&[found_row_with_networks(0, "[]", networks)], 1, 1).unwrap().records.remove(0);
            assert_eq!(
                StoreError::from(record.unwrap_err()).kind,
                FailureKind::InvalidResponse,
                "{networks}"
            );
        }
    }
}
