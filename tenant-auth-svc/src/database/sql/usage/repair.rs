//! Sets totals to the sums of their events.

use std::time::Duration;

use super::{compare::complete, sums::parse_metric};
use crate::{
    database::{
        engine::{Engine, Row, Statement},
        sql::{lookup::to_json, millis, transaction::last_rows},
    },
    domain::{
        audit::AuditAction,
        clock::UnixMillis,
        store::{Call, Change, FailureKind, StoreError},
        usage::{Hour, RepairedTotal, TotalDifference},
    },
};

/// Those of the given totals that differ now and may be repaired: `?1` is the tenant, `?2` pairs of hour and metric,
/// `?3` the retention. The transaction holds the write lock, so that nothing is committed while it runs.
macro_rules! differing {
    () => {
        concat!(
            "(SELECT * FROM ( \
                SELECT named.value ->> '$[0]' AS hour, named.value ->> '$[1]' AS metric, \
                       coalesce((SELECT quantity FROM usage_totals WHERE tenant_id = ?1 \
                                   AND hour = named.value ->> '$[0]' AND metric = named.value ->> '$[1]'), 0) AS total, \
                       coalesce((SELECT sum(quantity) FROM usage_events WHERE tenant_id = ?1 \
                                   AND hour = named.value ->> '$[0]' AND metric = named.value ->> '$[1]'), 0) AS events \
                FROM json_each(?2) AS named) \
              WHERE total <> events \
                AND NOT EXISTS (SELECT 1 FROM tenants WHERE id = ?1 AND deletion_started_at IS NOT NULL) \
                AND hour >= ",
            complete!("?3"),
            ")"
        )
    };
}

/// First, because the next statement removes the difference.
const INSERT_AUDIT: &str = concat!(
    "INSERT INTO audit_log (at, caller, action, target, tenant_id, request_id, detail) \
     SELECT ?4, ?5, ?6, ?1, ?1, ?7, json_object('metric', metric, 'hour', hour, 'before', total, 'after', events) FROM ",
    differing!()
);

const UPSERT_TOTALS: &str = concat!(
    "INSERT INTO usage_totals (tenant_id, hour, metric, quantity) SELECT ?1, hour, metric, events FROM ",
    differing!(),
    " WHERE TRUE ON CONFLICT (tenant_id, hour, metric) DO UPDATE SET quantity = excluded.quantity"
);

/// What was repaired, by this run or by an earlier one whose response was lost.
const SELECT_REPAIRED: &str = "\
SELECT detail ->> '$.hour', detail ->> '$.metric', detail ->> '$.before', detail ->> '$.after' \
FROM audit_log WHERE target = ?1 AND action = ?2 AND request_id = ?3 ORDER BY seq";

pub(super) async fn run<E: Engine>(
    engine: &E,
    call: Call,
    differences: &[TotalDifference],
    retention: Duration,
    change: &Change,
) -> Result<Vec<RepairedTotal>, StoreError> {
    let Some(first) = differences.first() else { return Ok(Vec::new()) };
    let tenant = first.tenant_id.as_str();
    if differences.iter().any(|difference| difference.tenant_id != first.tenant_id) {
        return Err(StoreError::new(FailureKind::Internal, "totals of several tenants in one repair"));
    }
    let totals: Vec<_> = differences
        .iter()
        .map(|difference| (difference.hour.start().0, difference.metric.as_str()))
        .collect();
    let totals = to_json(&totals)?;
    let statement =
        |sql: &str| Statement::new(sql).bind(tenant).bind(totals.as_str()).bind(millis(retention));
    let action = AuditAction::UsageRepair.as_str();
    let request_id = change.actor.request_id.as_str();
    let steps = vec![
        statement(INSERT_AUDIT)
            .bind(change.at.0)
            .bind(change.actor.caller.as_str())
            .bind(action)
            .bind(request_id),
        statement(UPSERT_TOTALS),
        Statement::new(SELECT_REPAIRED).bind(tenant).bind(action).bind(request_id),
    ];
    last_rows(engine.transaction(call, steps).await?)?.iter().map(read_repaired).collect()
}

fn read_repaired(row: &Row) -> Result<RepairedTotal, StoreError> {
    Ok(RepairedTotal {
        hour: Hour::floor(UnixMillis(row.integer(0)?)),
        metric: parse_metric(row.text(1)?)?,
        before: row.integer(2)?,
        after: row.integer(3)?,
    })
}
