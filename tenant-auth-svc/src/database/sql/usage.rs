//! Usage: recorded events, totals and their sweeps.

mod compare;
mod repair;
mod store;
mod sums;

use std::time::Duration;

use serde::Serialize;
use uuid::Uuid;

use self::sums::sum;
use super::{
    Engine, RecordTable, UnreadableRecords,
    lookup::to_json,
    millis,
    rows::{sql_limit, unreadable_value},
    transaction::last_rows,
};
use crate::{
    database::engine::{Row, Statement},
    domain::{
        id::TenantId,
        store::{Call, FailureKind, StoreError, UnreadableRecord},
        usage::{EventRefusal, IdempotentWrite, PayloadHash, StoredOutcome, SweptEvents},
    },
};

/// Inserts the request ids that are new. The database's clock says when they were first seen, so that all replicas
/// expire them at the same time.
///
/// The plain id belongs to the first caller that uses it. A caller that finds it with another caller's name uses its
/// own id, which includes its name. A row without a caller may be this caller's earlier attempt, if the payload is
/// the same.
const INSERT_REQUESTS: &str = concat!(
    "INSERT INTO usage_requests \
        (request_id, caller, payload_hash, first_seen_at, batch, refused, unknown_tenants) \
     SELECT CASE WHEN heads.value ->> 'own' IS NULL OR plain.seq IS NULL OR plain.caller = heads.value ->> 'caller' \
                   OR (plain.caller IS NULL AND plain.payload_hash = unhex(heads.value ->> 'payload')) \
                 THEN heads.value ->> 'id' ELSE heads.value ->> 'own' END, \
            heads.value ->> 'caller', unhex(heads.value ->> 'payload'), ",
    now!(),
    ", ?2, heads.value -> 'refused', \
            (SELECT json_group_array(named.value) FROM json_each(heads.value -> 'tenants') AS named \
             WHERE NOT EXISTS (SELECT 1 FROM tenants WHERE tenants.id = named.value AND deletion_started_at IS NULL)) \
     FROM json_each(?1) AS heads LEFT JOIN usage_requests AS plain ON plain.request_id = heads.value ->> 'id' \
     WHERE NOT EXISTS (SELECT 1 FROM usage_requests AS own WHERE own.request_id = heads.value ->> 'own') \
     ON CONFLICT (request_id) DO NOTHING"
);

/// Inserts events for the ids that this batch has inserted, of which each request has one: an earlier request may
/// have been validated by another clock. Skips tenants that were created since the batch ran first. The request is not found by
/// `request_id IN (…)`: the new engine of Turso (0.8.3) evaluates such a list once, for the first of the bodies.
const INSERT_EVENTS: &str = "\
INSERT INTO usage_events (tenant_id, hour, metric, request, quantity) \
SELECT tenants.id, sums.value ->> '$[1]', sums.value ->> '$[2]', requests.seq, sums.value ->> '$[3]' \
FROM json_each(?1) AS bodies \
JOIN usage_requests AS requests \
  ON requests.batch = ?2 AND requests.seq = coalesce( \
    (SELECT seq FROM usage_requests WHERE request_id = bodies.value ->> 'own'), \
    (SELECT seq FROM usage_requests WHERE request_id = bodies.value ->> 'id')) \
JOIN json_each(bodies.value -> 'counted') AS sums \
JOIN tenants ON tenants.id = sums.value ->> '$[0]' AND tenants.deletion_started_at IS NULL \
WHERE NOT EXISTS (SELECT 1 FROM json_each(requests.unknown_tenants) AS missing WHERE missing.value = tenants.id) \
ON CONFLICT DO NOTHING";

/// Reads the stored outcome of each request: one row each. The row of the plain id belongs to requests without an own
/// one.
const SELECT_OUTCOMES: &str = "\
SELECT ids.key, hex(requests.payload_hash), requests.batch = ?2, requests.refused, requests.unknown_tenants \
FROM json_each(?1) AS ids LEFT JOIN usage_requests AS requests ON requests.seq = coalesce( \
    (SELECT seq FROM usage_requests WHERE request_id = ids.value ->> 'own'), \
    (SELECT seq FROM usage_requests WHERE request_id = ids.value ->> 'id')) \
ORDER BY ids.key";

/// Deletes events tenant by tenant, a page of tenants at a time, since the oldest events of one tenant are adjacent.
/// CROSS JOIN forces this order: by its own estimate SQLite would read all events and look each one's tenant up.
///
/// Requests are deleted in the order of their arrival, so those before the first remaining one are deleted.
const SWEEP_EVENTS: &str = concat!(
    "DELETE FROM usage_events WHERE (tenant_id, hour, metric, request) IN ( \
        SELECT old.tenant_id, old.hour, old.metric, old.request \
        FROM (SELECT id FROM tenants WHERE id > ?3 ORDER BY id LIMIT ?2) AS page \
        CROSS JOIN usage_events AS old ON old.tenant_id = page.id AND old.hour < ",
    now!(),
    " - ?1 WHERE old.request < (SELECT coalesce(min(seq), 9223372036854775807) FROM usage_requests) LIMIT ?2)"
);

/// The last tenant of the page, if there are more after it.
const LAST_SWEPT_TENANT: &str = "\
SELECT CASE WHEN count(*) = ?2 THEN max(id) END FROM (SELECT id FROM tenants WHERE id > ?1 ORDER BY id LIMIT ?2)";

/// In the order of arrival, which needs no index by time.
const SWEEP_REQUESTS: &str = concat!(
    "DELETE FROM usage_requests \
     WHERE seq IN (SELECT seq FROM usage_requests ORDER BY seq LIMIT ?2) AND first_seen_at < ",
    now!(),
    " - ?1"
);

/// The ids under which a request may be stored.
#[derive(Serialize)]
struct RequestIds<'a> {
    id: &'a str,
    /// The id with the caller's name appended.
    own: Option<String>,
}

#[derive(Serialize)]
struct RequestArgs<'a> {
    #[serde(flatten)]
    ids: RequestIds<'a>,
    caller: Option<&'a str>,
    payload: String,
    refused: Vec<(usize, &'a str)>,
    tenants: Vec<&'a str>,
}

#[derive(Serialize)]
struct EventArgs<'a> {
    #[serde(flatten)]
    ids: RequestIds<'a>,
    counted: Vec<(&'a str, i64, &'a str, i64)>,
}

async fn record<E: Engine>(
    engine: &E,
    unreadable: &UnreadableRecords,
    call: Call,
    writes: &[IdempotentWrite],
) -> Result<Vec<Result<StoredOutcome, UnreadableRecord>>, StoreError> {
    let request_rows: Vec<_> = writes.iter().map(request_args).collect();
    let event_rows: Vec<_> = writes.iter().filter(|write| !write.totals.is_empty()).map(event_args).collect();
    let ids: Vec<_> = writes.iter().map(request_ids).collect();
    let batch = new_batch_id();
    let statement = |sql: &str, json: String| Statement::new(sql).bind(json).bind(batch);
    let steps = vec![
        statement(INSERT_REQUESTS, to_json(&request_rows)?),
        statement(INSERT_EVENTS, to_json(&event_rows)?),
        statement(SELECT_OUTCOMES, to_json(&ids)?),
    ];
    let rows = last_rows(engine.transaction(call, steps).await?)?;
    if rows.len() != writes.len() {
        return Err(StoreError::new(FailureKind::InvalidResponse, "a usage batch returned too few outcomes"));
    }
    let outcome = |row| {
        if Row::optional_text(row, 1)?.is_none() {
            return Err(StoreError::new(
                FailureKind::InvalidResponse,
                "a request that was just recorded does not exist",
            ));
        }
        // Identified by its index in the batch: its id belongs to the caller.
        Ok(unreadable.check(RecordTable::UsageRequests, (row, 0), read_outcome(row)))
    };
    rows.iter().map(outcome).collect()
}

/// Decodes the stored outcome of a request.
fn read_outcome(row: &Row) -> Result<StoredOutcome, StoreError> {
    let mut payload = [0; 32];
    hex::decode_to_slice(row.text(1)?, &mut payload).map_err(|_| unreadable_value("payload"))?;
    let refused: Vec<(usize, String)> =
        serde_json::from_str(row.text(3)?).map_err(|_| unreadable_value("refusal"))?;
    let tenants: Vec<String> =
        serde_json::from_str(row.text(4)?).map_err(|_| unreadable_value("list of tenants"))?;
    let refusal = |(index, name): (usize, String)| {
        EventRefusal::parse(&name).map(|refusal| (index, refusal)).ok_or_else(|| unreadable_value("refusal"))
    };
    let tenant = |id: String| TenantId::parse(&id).map_err(|_| unreadable_value("tenant id"));
    Ok(StoredOutcome {
        payload: PayloadHash::from_bytes(payload),
        refused: refused.into_iter().map(refusal).collect::<Result<_, _>>()?,
        unknown_tenants: tenants.into_iter().map(tenant).collect::<Result<_, _>>()?,
        already_recorded: row.integer(2)? == 0,
    })
}

/// Returns the id of a batch: a retry after a lost response finds its own rows.
pub(super) fn new_batch_id() -> i64 {
    let (_, random) = Uuid::now_v7().as_u64_pair();
    i64::try_from(random & (u64::MAX >> 1)).unwrap_or(i64::MAX)
}

fn request_ids(write: &IdempotentWrite) -> RequestIds<'_> {
    let id = write.id.as_str();
    RequestIds { id, own: write.caller.as_ref().map(|caller| format!("{id}\u{1f}{caller}")) }
}

fn request_args(write: &IdempotentWrite) -> RequestArgs<'_> {
    let mut tenants: Vec<_> = write.totals.iter().map(|total| total.tenant_id.as_str()).collect();
    // The totals are sorted by tenant.
    tenants.dedup();
    RequestArgs {
        ids: request_ids(write),
        caller: write.caller.as_deref(),
        payload: hex::encode(write.payload.as_bytes()),
        refused: write.refused.iter().map(|(index, refusal)| (*index, refusal.as_str())).collect(),
        tenants,
    }
}

fn event_args(write: &IdempotentWrite) -> EventArgs<'_> {
    let totals = write
        .totals
        .iter()
        .map(|sum| (sum.tenant_id.as_str(), sum.hour.start().0, sum.metric.as_str(), sum.quantity));
    EventArgs { ids: request_ids(write), counted: totals.collect() }
}

async fn sweep_requests<E: Engine>(
    engine: &E,
    call: Call,
    retention: Duration,
    limit: usize,
) -> Result<usize, StoreError> {
    let delete = Statement::new(SWEEP_REQUESTS).bind(millis(retention)).bind(sql_limit(limit));
    let results = engine.transaction(call, vec![delete, Statement::new("SELECT changes()")]).await?;
    read_count(&results, 1)
}

async fn sweep_events<E: Engine>(
    engine: &E,
    call: Call,
    retention: Duration,
    after: Option<&str>,
    limit: usize,
) -> Result<SweptEvents, StoreError> {
    let after = after.unwrap_or_default();
    let delete = Statement::new(SWEEP_EVENTS).bind(millis(retention)).bind(sql_limit(limit)).bind(after);
    let tenants = Statement::new(LAST_SWEPT_TENANT).bind(after).bind(sql_limit(limit));
    let steps = vec![delete, Statement::new("SELECT changes()"), tenants];
    let results = engine.transaction(call, steps).await?;
    let events = read_count(&results, 1)?;
    let last = last_rows(results)?;
    let last_tenant = match last.as_slice() {
        [row] => row.optional_text(0)?.map(str::to_owned),
        _ => {
            return Err(StoreError::new(
                FailureKind::InvalidResponse,
                "a page of tenants did not return one last row",
            ));
        }
    };
    Ok(SweptEvents { deleted: events, last_tenant })
}

fn read_count(results: &[Vec<Row>], position: usize) -> Result<usize, StoreError> {
    match results.get(position).map(Vec::as_slice) {
        Some([row]) => Ok(usize::try_from(row.integer(0)?).unwrap_or_default()),
        _ => Err(StoreError::new(FailureKind::InvalidResponse, "a count did not return one row")),
    }
}
