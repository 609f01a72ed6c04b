//! Imitates a replica of the previous build, which has no callers.

use std::sync::atomic::{AtomicI64, Ordering};

use tenant_auth_svc::{
    database::engine::{Engine as _, Row, Statement},
    domain::{
        store::Lane,
        usage::{Hour, PayloadHasher},
    },
};

use crate::harness::NOW;
use crate::harness::{TestDatabase, call};

const INSERT_REQUEST: &str = "\
INSERT INTO usage_requests (request_id, payload_hash, first_seen_at, batch, refused, unknown_tenants) \
SELECT heads.value ->> 'id', unhex(heads.value ->> 'payload'), 1, ?2, heads.value -> 'refused', \
       (SELECT json_group_array(named.value) FROM json_each(heads.value -> 'tenants') AS named \
        WHERE NOT EXISTS (SELECT 1 FROM tenants WHERE tenants.id = named.value)) \
FROM json_each(?1) AS heads WHERE TRUE \
ON CONFLICT (request_id) DO NOTHING";

const INSERT_EVENTS: &str = "\
INSERT INTO usage_events (tenant_id, hour, metric, request, quantity) \
SELECT tenants.id, sums.value ->> '$[1]', sums.value ->> '$[2]', requests.seq, sums.value ->> '$[3]' \
FROM json_each(?1) AS bodies \
JOIN usage_requests AS requests ON requests.request_id = bodies.value ->> 'id' AND requests.batch = ?2 \
JOIN json_each(bodies.value -> 'counted') AS sums \
JOIN tenants ON tenants.id = sums.value ->> '$[0]' \
WHERE NOT EXISTS (SELECT 1 FROM json_each(requests.unknown_tenants) AS missing WHERE missing.value = tenants.id) \
ON CONFLICT DO NOTHING";

const SELECT_STORED: &str = "\
SELECT ids.key, hex(requests.payload_hash), requests.batch = ?2, requests.refused, requests.unknown_tenants \
FROM json_each(?1) AS ids LEFT JOIN usage_requests AS requests ON requests.request_id = ids.value \
ORDER BY ids.key";

/// The number that identifies the next transaction.
static NEXT_BATCH: AtomicI64 = AtomicI64::new(1);

/// Records one event as the previous build does. Returns whether an earlier call had recorded it. An error
/// means that the id was used for other events.
pub(super) async fn record_as_older_build(
    database: &TestDatabase,
    tenant: &str,
    id: &str,
    quantity: i64,
) -> Result<bool, ()> {
    let mut hasher = PayloadHasher::default();
    hasher.add_event(tenant, "calls", quantity, None);
    let payload = hex::encode(hasher.finish().as_bytes());
    let hour = Hour::floor(NOW).start().0;
    let head = serde_json::json!([{ "id": id, "payload": payload, "refused": [], "tenants": [tenant] }]);
    let body = serde_json::json!([{ "id": id, "counted": [[tenant, hour, "calls", quantity]] }]);
    let batch = NEXT_BATCH.fetch_add(1, Ordering::Relaxed);
    let statement =
        |sql: &str, json: serde_json::Value| Statement::new(sql).bind(json.to_string()).bind(batch);
    let steps = vec![
        statement(INSERT_REQUEST, head),
        statement(INSERT_EVENTS, body),
        statement(SELECT_STORED, serde_json::json!([id])),
    ];
    let rows = database.client().transaction(call(Lane::Usage), steps).await.unwrap();
    let row: &Row = &rows.last().unwrap()[0];
    if row.text(1).unwrap().to_lowercase() == payload { Ok(row.integer(2).unwrap() == 0) } else { Err(()) }
}
