//! What became of each key of an import.

use super::{
    RecordTable, UnreadableRecords,
    keys::{KEY_COLUMNS, qualified, read_key},
    peppers::{missing_pepper_sql, pepper_missing_error},
};
use crate::{
    database::engine::{Row, SqlValue, Statement},
    domain::{
        key::{ImportOutcome, KeyToImport},
        store::{FailureKind, StoreError},
    },
};

/// Selects one row per key to import: the key that has its hash now, if any, and the pepper that is missing.
pub(super) fn select_holders(imports: SqlValue, known_peppers: String) -> Statement {
    Statement::new(format!(
        "SELECT {}, {} FROM json_each(?1) AS imports LEFT JOIN api_keys ON api_keys.key_hash = \
         (SELECT held.key_hash FROM json_each(imports.value -> 'known_as') AS known \
          JOIN api_keys AS held ON held.key_hash = unhex(known.value) LIMIT 1) ORDER BY imports.key",
        qualified("api_keys", KEY_COLUMNS),
        missing_pepper_sql("?2"),
    ))
    .bind(imports)
    .bind(known_peppers)
}

/// Returns the outcomes, in the order of the keys to import.
///
/// # Errors
/// [`FailureKind::PepperMissing`] when it is unknown which of the keys exist already;
/// [`FailureKind::InvalidResponse`] when there are too few rows.
pub(super) fn read_outcomes(
    unreadable: &UnreadableRecords,
    imports: &[KeyToImport],
    holders: &[Row],
) -> Result<Vec<ImportOutcome>, StoreError> {
    if holders.len() != imports.len() {
        return Err(StoreError::new(FailureKind::InvalidResponse, "an import returned too few outcomes"));
    }
    let outcome = |(import, holder)| match read_outcome(import, holder) {
        Err(error) if error.kind == FailureKind::PepperMissing => Err(error),
        outcome => {
            let outcome = unreadable.check(RecordTable::ApiKeys, (holder, 0), outcome);
            Ok(outcome.unwrap_or_else(ImportOutcome::Unreadable))
        }
    };
    imports.iter().zip(holders).map(outcome).collect()
}

fn read_outcome(import: &KeyToImport, holder: &Row) -> Result<ImportOutcome, StoreError> {
    if holder.optional_text(0)?.is_none() {
        // The columns of a key come first, as `read_key` expects.
        return match holder.optional_text(holder.0.len().saturating_sub(1))? {
            Some(pepper) => Err(pepper_missing_error(pepper)),
            None => Ok(ImportOutcome::NoSuchTenant(import.key.tenant_id.clone())),
        };
    }
    Ok(ImportOutcome::of(import, read_key(holder)?))
}
