//! Adjustments of credits.
//!
//! One transaction. The row of `limit_ids` decides: each of the other statements takes effect only if the one before it did.
//! A second run after a lost response finds the row of the first by its batch, and changes nothing.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{
    calendar::credited_sql,
    effective::{effective_sql, holder_sql},
    record::only_row,
};
use crate::{
    database::{
        engine::{Engine, Row, SqlValue, Statement},
        sql::{
            audit::audit_statement,
            transaction::{commit, last_rows},
            usage::new_batch_id,
        },
    },
    domain::{
        audit::AuditAction,
        clock::UnixMillis,
        limit::store::{CreditAdjustment, CreditOutcome, LimitHolder},
        store::{Call, Change, Committed, StoreError},
        text::Reason,
    },
};

/// The counter of the credits that apply.
const ITS_COUNTER: &str = "limit_counters AS counter ON counter.tenant_id = holder.tenant_id \
     AND counter.key_id = iif(effective.scope = 'key', holder.key_id, '') AND counter.name = effective.name \
     AND counter.kind = 'credits' AND counter.window_start = 0";

pub(super) async fn add<E: Engine>(
    engine: &E,
    call: Call,
    adjustment: &CreditAdjustment,
    change: &Change,
) -> Result<Committed<CreditOutcome>, StoreError> {
    let Committed { outcome: results, revision } =
        commit(engine, call, statements(adjustment, change)).await?;
    let rows = last_rows(results)?;
    Ok(Committed { outcome: read_outcome(only_row(&rows)?)?, revision })
}

/// `?1` is the holder and `?2` the name of the limit.
fn statements(adjustment: &CreditAdjustment, change: &Change) -> Vec<Statement> {
    let CreditAdjustment { holder, name, amount, .. } = adjustment;
    let effective = effective_sql(holder_sql(holder), "limits.name = ?2");
    let of_limit = |sql: String| Statement::new(sql).bind(holder.id()).bind(name.as_str());
    // ?3 is the stored id, ?4 the hash of what is adjusted, and ?5 the batch.
    let (id, batch) = (adjustment.stored_id(), new_batch_id());
    let identified = |sql: String| {
        let fingerprint = SqlValue::Blob(Bytes::copy_from_slice(&adjustment.fingerprint()));
        of_limit(sql).bind(id.as_str()).bind(fingerprint).bind(batch)
    };
    let record = format!(
        "INSERT INTO limit_ids (id, fingerprint, batch, at) {effective} SELECT ?3, ?4, ?5, {} FROM effective \
         WHERE kind = 'credits' ON CONFLICT (id) DO NOTHING",
        now!(),
    );
    // A counter that does not exist yet starts with the initial credits.
    let adjust = format!(
        "INSERT INTO limit_counters (tenant_id, key_id, name, kind, window_start, window_end, credited, refreshed_at) \
         {effective}, clock AS (SELECT {} AS now) \
         SELECT holder.tenant_id, iif(effective.scope = 'key', holder.key_id, ''), effective.name, 'credits', 0, ?4, \
            max(coalesce({}, effective.amount) + ?3, coalesce(counter.counted, 0)), max(clock.now, coalesce(counter.refreshed_at, 0)) \
         FROM clock JOIN holder JOIN effective LEFT JOIN {ITS_COUNTER} WHERE changes() > 0 \
         ON CONFLICT (tenant_id, key_id, name, kind, window_start) DO UPDATE SET \
            credited = excluded.credited, refreshed_at = excluded.refreshed_at, version = version + 1",
        now!(),
        credited_sql("effective", "counter", "clock.now"),
    );
    // The replicas read the counter again.
    let announce = format!(
        "INSERT INTO changes (kind, ref, tenant_id, at) WITH holder AS ({}) \
         SELECT 'limit', ?2, holder.tenant_id, {} FROM holder WHERE changes() > 0",
        holder_sql(holder),
        now!(),
    );
    let outcome = format!(
        "{effective}, clock AS (SELECT {} AS now) \
         SELECT holder.tenant_id, effective.kind, ids.fingerprint = ?4, ids.batch = ?5, \
            coalesce({}, effective.amount), coalesce(counter.counted, 0) \
         FROM clock LEFT JOIN holder ON TRUE LEFT JOIN effective ON TRUE LEFT JOIN {ITS_COUNTER} \
         LEFT JOIN limit_ids AS ids ON ids.id = ?3",
        now!(),
        credited_sql("effective", "counter", "clock.now"),
    );
    let tenant = match holder {
        LimitHolder::Tenant(tenant) => Some(tenant.as_str()),
        // Found by the key.
        LimitHolder::Key(_) => None,
    };
    vec![
        identified(record),
        of_limit(adjust).bind(*amount).bind(UnixMillis::MAX.0),
        of_limit(announce),
        audit_statement(change, AuditAction::LimitAddCredits, holder.id(), tenant, &detail(adjustment)),
        identified(outcome),
    ]
}

fn detail(adjustment: &CreditAdjustment) -> String {
    let mut detail = Map::from_iter([
        ("limit".to_owned(), Value::from(adjustment.name.as_str())),
        ("amount".to_owned(), adjustment.amount.into()),
        ("adjustment".to_owned(), adjustment.id.as_str().into()),
    ]);
    if let Some(reason) = adjustment.reason.as_ref().map(Reason::as_str) {
        detail.insert("reason".to_owned(), reason.into());
    }
    Value::Object(detail).to_string()
}

fn read_outcome(row: &Row) -> Result<CreditOutcome, StoreError> {
    if row.optional_text(0)?.is_none() {
        return Ok(CreditOutcome::NoSuchSubject);
    }
    Ok(match (row.optional_text(1)?, row.optional_integer(2)?) {
        (None, _) => CreditOutcome::NoSuchLimit,
        (Some("credits"), Some(1)) => {
            let credited = row.integer(4)?;
            let remaining = credited - row.integer(5)?;
            CreditOutcome::Adjusted { credited, remaining, already_added: row.integer(3)? == 0 }
        }
        (Some("credits"), _) => CreditOutcome::IdReused,
        (Some(_), _) => CreditOutcome::NoCredits,
    })
}
