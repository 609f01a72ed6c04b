//! Live keys under peppers that this replica lacks: it cannot find them, so it must not report any key as unknown.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::lookup::to_json;
use crate::{
    database::engine::{Engine, Row, Statement},
    domain::{
        key::{PepperId, Peppers},
        store::{Call, FailureKind, StoreError},
    },
};

/// Returns the id of a pepper that is not in `listed` (a parameter: a JSON array of ids) and under which a live key
/// is stored: not revoked, not expired by the database's clock, of an existing tenant. Skips through the index from
/// one pepper to the next, and searches it for one live key of each unlisted pepper. Expired keys are never read.
pub(super) fn missing_pepper_sql(listed: &str) -> String {
    format!(
        "(WITH RECURSIVE used (id) AS ( \
             SELECT min(pepper_id) FROM api_keys WHERE pepper_id IS NOT NULL AND revoked_at IS NULL \
             UNION ALL \
             SELECT (SELECT min(pepper_id) FROM api_keys \
                     WHERE pepper_id IS NOT NULL AND revoked_at IS NULL AND pepper_id > used.id) \
             FROM used WHERE used.id IS NOT NULL) \
         SELECT used.id FROM used \
         WHERE used.id IS NOT NULL AND used.id NOT IN (SELECT value FROM json_each({listed})) AND ( \
             EXISTS (SELECT 1 FROM api_keys AS live JOIN tenants AS owner ON owner.id = live.tenant_id \
                     WHERE live.pepper_id = used.id AND live.revoked_at IS NULL AND live.expires_at IS NULL) \
             OR EXISTS (SELECT 1 FROM api_keys AS live JOIN tenants AS owner ON owner.id = live.tenant_id \
                     WHERE live.pepper_id = used.id AND live.revoked_at IS NULL \
                       AND live.expires_at > CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER))) \
         LIMIT 1)"
    )
}

/// The ids of the known peppers, as [`missing_pepper_sql`] takes them.
pub(super) fn known_ids_json(peppers: &Peppers) -> Result<String, StoreError> {
    to_json(&peppers.ids().map(PepperId::as_str).collect::<Vec<_>>())
}

/// Finds a pepper that is used but unknown.
pub(crate) async fn find_missing<E: Engine>(
    engine: &E,
    peppers: &Peppers,
    call: Call,
) -> Result<Option<String>, StoreError> {
    let statement =
        Statement::new(format!("SELECT {}", missing_pepper_sql("?1"))).bind(known_ids_json(peppers)?);
    single_text(&engine.query(call, statement).await?)
}

/// The checks of the known peppers, as JSON.
fn checks_json(peppers: &Peppers) -> Result<String, StoreError> {
    to_json(&peppers.fingerprints().map(|(id, check)| (id.as_str(), hex::encode(check))).collect::<Vec<_>>())
}

/// Finds the id of a pepper that was first used with another secret.
pub(crate) async fn find_differing<E: Engine>(
    engine: &E,
    peppers: &Peppers,
    call: Call,
) -> Result<Option<String>, StoreError> {
    let statement = Statement::new(
        "SELECT (SELECT noted.pepper_id FROM json_each(?1) AS known \
                 JOIN pepper_checks AS noted ON noted.pepper_id = known.value ->> 0 \
                 WHERE noted.value <> unhex(known.value ->> 1) LIMIT 1)",
    )
    .bind(checks_json(peppers)?);
    single_text(&engine.query(call, statement).await?)
}

/// Records the peppers that are used for the first time. Writes nothing, and needs no permission to write, if all are
/// recorded.
pub(crate) async fn record_checks<E: Engine>(
    engine: &E,
    peppers: &Peppers,
    call: Call,
) -> Result<(), StoreError> {
    let checks = checks_json(peppers)?;
    let missing = Statement::new(
        "SELECT (SELECT known.value ->> 0 FROM json_each(?1) AS known \
                 WHERE NOT EXISTS (SELECT 1 FROM pepper_checks WHERE pepper_id = known.value ->> 0) LIMIT 1)",
    )
    .bind(checks.as_str());
    if single_text(&engine.query(call, missing).await?)?.is_some() {
        let insert = Statement::new(
            "INSERT INTO pepper_checks (pepper_id, value) \
             SELECT known.value ->> 0, unhex(known.value ->> 1) FROM json_each(?1) AS known WHERE TRUE \
             ON CONFLICT DO NOTHING",
        )
        .bind(checks);
        engine.transaction(call, vec![insert]).await?;
    }
    Ok(())
}

/// Returns the only text of a response.
fn single_text(rows: &[Row]) -> Result<Option<String>, StoreError> {
    match rows {
        [row] => Ok(row.optional_text(0)?.map(str::to_owned)),
        rows => Err(StoreError::new(
            FailureKind::InvalidResponse,
            format!("expected exactly one row, got {}", rows.len()),
        )),
    }
}

/// The error of a lookup that found no key: the result is inconclusive.
pub(super) fn pepper_missing_error(id: &str) -> StoreError {
    let message = format!("live keys are stored under the pepper {id}, which this replica lacks");
    StoreError::new(FailureKind::PepperMissing, message)
}

/// The pepper that this replica was last found to lack.
#[derive(Debug, Default)]
pub struct MissingPepper(ArcSwapOption<String>);

impl MissingPepper {
    /// Its id; `None` if all live keys are stored under known peppers.
    #[must_use]
    pub fn id(&self) -> Option<Arc<String>> {
        self.0.load_full()
    }

    /// Updates the id from a response of the database, and logs a change.
    pub(super) fn update(&self, missing: Option<&str>, peppers: &Peppers) {
        if self.0.load().as_deref().map(String::as_str) == missing {
            return;
        }
        let before = self.0.swap(missing.map(|id| Arc::new(id.to_owned())));
        match (missing, before) {
            (Some(id), before) if before.as_deref().map(String::as_str) != Some(id) => tracing::error!(
                pepper = id,
                file = peppers.file(),
                "live keys are stored under a pepper that this replica lacks: until its file contains it (`accept` and the \
                 secret) and it was restarted, keys that are not found are answered UNAVAILABLE, and never UNKNOWN"
            ),
            (None, Some(id)) => {
                tracing::info!(
                    pepper = &**id,
                    "no live key is stored any more under the pepper that this replica lacks"
                );
            }
            (Some(_) | None, _) => {}
        }
    }
}
