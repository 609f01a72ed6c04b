//! Records leaked keys, and applies the policy of their tenants.
//!
//! One transaction. The row of `key_leaks` decides: it is written only if the source has not reported the key before, and
//! names the report that wrote it. A second run after a lost response finds its own row, and changes nothing more.

use super::{
    Engine, SqlStore,
    keys::{KEY_COLUMNS, qualified, read_key},
    lookup::to_json,
    peppers::{known_ids_json, missing_pepper_sql, pepper_missing_error},
    rows::unreadable_value,
    transaction::commit,
};
use crate::{
    database::engine::{Row, SqlValue, Statement},
    domain::{
        audit::AuditAction,
        key::{KeyHash, Peppers},
        leak::{LeakKnowledge, LeakOutcome, LeakPolicy, LeakReport, LeakStore},
        store::{Call, Change, Committed, FailureKind, StoreError},
        text::LeakSource,
    },
};

impl<E: Engine> LeakStore for SqlStore<E> {
    async fn report_leak(
        &self,
        call: Call,
        leak: &LeakReport,
        report_id: &str,
        default_policy: LeakPolicy,
        change: &Change,
    ) -> Result<Committed<Option<LeakOutcome>>, StoreError> {
        report(&self.engine, &self.peppers, call, (leak, report_id), default_policy, change).await
    }

    async fn find_leaks(
        &self,
        call: Call,
        hashes: &[KeyHash],
        source: &LeakSource,
    ) -> Result<Vec<LeakKnowledge>, StoreError> {
        find(&self.engine, &self.peppers, call, hashes, source).await
    }
}

/// One row per list of digests, in order.
async fn find<E: Engine>(
    engine: &E,
    peppers: &Peppers,
    call: Call,
    hashes: &[KeyHash],
    source: &LeakSource,
) -> Result<Vec<LeakKnowledge>, StoreError> {
    let digests = |hash| peppers.candidates(hash).map(|candidate| hex::encode(candidate.digest));
    let digests: Vec<Vec<String>> = hashes.iter().map(|hash| digests(hash).collect()).collect();
    let statement = format!(
        "SELECT wanted.key, held.id IS NOT NULL, leak.key_id IS NOT NULL, {} FROM json_each(?1) AS wanted \
         LEFT JOIN api_keys AS held ON held.key_hash = (SELECT api_keys.key_hash FROM json_each(wanted.value) AS digests \
            JOIN api_keys ON api_keys.key_hash = unhex(digests.value) LIMIT 1) \
         LEFT JOIN key_leaks AS leak ON leak.key_id = held.id AND leak.source = ?3 ORDER BY wanted.key",
        missing_pepper_sql("?2"),
    );
    let statement = Statement::new(statement)
        .bind(to_json(&digests)?)
        .bind(known_ids_json(peppers)?)
        .bind(source.as_str());
    let rows = engine.query(call, statement).await?;
    if rows.len() != hashes.len() {
        return Err(StoreError::new(
            FailureKind::InvalidResponse,
            "a search for leaks returned too few rows",
        ));
    }
    let knowledge = |row: &Row| match (row.integer(1)?, row.integer(2)?, row.optional_text(3)?) {
        (0, _, Some(pepper)) => Err(pepper_missing_error(pepper)),
        (0, _, None) => Ok(LeakKnowledge::Unknown),
        (_, 0, _) => Ok(LeakKnowledge::Unreported),
        _ => Ok(LeakKnowledge::Reported),
    };
    rows.iter().map(knowledge).collect()
}

/// The id of the leaked key. `?1` is a JSON array of the digests under which it may be stored.
const LEAKED_ID: &str = "(SELECT api_keys.id FROM json_each(?1) AS digests \
                          JOIN api_keys ON api_keys.key_hash = unhex(digests.value) LIMIT 1)";

async fn report<E: Engine>(
    engine: &E,
    peppers: &Peppers,
    call: Call,
    (report, report_id): (&LeakReport, &str),
    default_policy: LeakPolicy,
    change: &Change,
) -> Result<Committed<Option<LeakOutcome>>, StoreError> {
    let digests: Vec<_> =
        peppers.candidates(&report.hash).map(|candidate| hex::encode(candidate.digest)).collect();
    let digests: SqlValue = to_json(&digests)?.into();
    let statements = statements(&digests, peppers, (report, report_id), default_policy, change)?;
    let Committed { outcome: results, revision } = commit(engine, call, statements).await?;
    let row = results.last().and_then(|rows| rows.first()).ok_or_else(|| {
        StoreError::new(FailureKind::InvalidResponse, "a report of a leak returned too few results")
    })?;
    Ok(Committed { outcome: read_outcome(row)?, revision })
}

fn statements(
    digests: &SqlValue,
    peppers: &Peppers,
    (report, report_id): (&LeakReport, &str),
    default_policy: LeakPolicy,
    change: &Change,
) -> Result<Vec<Statement>, StoreError> {
    let source = report.source.as_str();
    let of_report = |sql: String| Statement::new(sql).bind(digests.clone()).bind(source).bind(report_id);
    // ?2 is the source, and ?3 the report.
    let by_this_report = format!(
        "EXISTS (SELECT 1 FROM key_leaks WHERE key_id = {LEAKED_ID} AND source = ?2 AND report_id = ?3"
    );
    let record = format!(
        "INSERT INTO key_leaks (key_id, source, location, type, policy, reported_at, report_id) \
         SELECT api_keys.id, ?2, ?4, ?5, CASE WHEN tenants.leak_policy IN ('disable', 'notify') OR tenants.leak_policy LIKE 'expire:_%' \
                                                 THEN tenants.leak_policy ELSE ?6 END, ?7, ?3 \
         FROM api_keys LEFT JOIN tenants ON tenants.id = api_keys.tenant_id \
         WHERE api_keys.id = {LEAKED_ID} ON CONFLICT (key_id, source) DO NOTHING"
    );
    let disable = format!(
        "UPDATE api_keys SET disabled_at = ?4 WHERE id = {LEAKED_ID} AND revoked_at IS NULL AND disabled_at IS NULL \
         AND {by_this_report} AND policy = 'disable')"
    );
    let expire = format!(
        concat!(
            "UPDATE api_keys SET expires_at = leak.expires_at FROM (SELECT ",
            now!(),
            " + CAST(substr(policy, 8) AS INTEGER) AS expires_at FROM key_leaks \
             WHERE key_id = {id} AND source = ?2 AND report_id = ?3 AND policy LIKE 'expire:%') AS leak \
             WHERE id = {id} AND revoked_at IS NULL \
               AND (api_keys.expires_at IS NULL OR api_keys.expires_at > leak.expires_at)"
        ),
        id = LEAKED_ID
    );
    // Not by changes(): a repeated run must find the entry of the first.
    let audit = format!(
        "INSERT INTO audit_log (at, caller, action, target, tenant_id, request_id, detail) \
         SELECT ?4, ?5, ?6, api_keys.id, api_keys.tenant_id, ?7, json_object( \
            'reason', 'found by ' || leak.source, 'report', leak.report_id, 'location', leak.location, 'type', leak.type, 'policy', leak.policy, \
            'after', CASE WHEN api_keys.revoked_at IS NOT NULL THEN json_object() \
                          WHEN leak.policy = 'disable' THEN json_object('enabled', json('false')) \
                          WHEN leak.policy LIKE 'expire:%' THEN json_object('expires_at', api_keys.expires_at) \
                          ELSE json_object() END) \
         FROM api_keys JOIN key_leaks AS leak ON leak.key_id = api_keys.id AND leak.source = ?2 AND leak.report_id = ?3 \
         WHERE api_keys.id = {LEAKED_ID} AND NOT EXISTS ( \
            SELECT 1 FROM audit_log WHERE target = api_keys.id AND action = ?6 AND detail ->> '$.report' = ?3)"
    );
    let outcome = format!(
        "SELECT {}, leak.policy, leak.report_id <> ?3, {} FROM (SELECT 1) \
         LEFT JOIN api_keys ON api_keys.id = {LEAKED_ID} \
         LEFT JOIN key_leaks AS leak ON leak.key_id = api_keys.id AND leak.source = ?2",
        qualified("api_keys", KEY_COLUMNS),
        missing_pepper_sql("?4"),
    );
    Ok(vec![
        of_report(record)
            .bind(report.location.as_str())
            .bind(report.kind.as_str())
            .bind(default_policy.to_string())
            .bind(change.at.0),
        of_report(disable).bind(change.at.0),
        of_report(expire),
        of_report(audit)
            .bind(change.at.0)
            .bind(change.actor.caller.as_str())
            .bind(AuditAction::KeyLeak.as_str())
            .bind(change.actor.request_id.as_str()),
        of_report(outcome).bind(known_ids_json(peppers)?),
    ])
}

fn read_outcome(row: &Row) -> Result<Option<LeakOutcome>, StoreError> {
    let column = KEY_COLUMNS.split(',').count();
    if row.optional_text(0)?.is_none() {
        // The key may be stored under a pepper that this replica lacks.
        return row.optional_text(column + 2)?.map_or(Ok(None), |pepper| Err(pepper_missing_error(pepper)));
    }
    let policy = LeakPolicy::from_stored(row.text(column)?).ok_or_else(|| unreadable_value("leak policy"))?;
    let already_reported = row.integer(column + 1)? == 1;
    Ok(Some(LeakOutcome { policy, already_reported, key: read_key(row)? }))
}
