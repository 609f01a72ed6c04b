//! Reads totals.

use crate::{
    database::{
        engine::{Engine, Row, Statement},
        sql::{
            RecordTable, UnreadableRecords,
            rows::{lookahead_limit, unreadable_value},
        },
    },
    domain::{
        clock::UnixMillis,
        page::Page,
        store::{Call, FailureKind, StoreError},
        usage::{TimeBucket, UsageCursor, UsageMetric, UsageQuery, UsageSum},
    },
};

/// Start of the bucket of an hour.
fn bucket_start_sql(bucket: TimeBucket) -> &'static str {
    match bucket {
        TimeBucket::Hour => "hour",
        TimeBucket::Day => "hour - hour % 86400000",
        TimeBucket::Month => "unixepoch(hour / 1000, 'unixepoch', 'start of month') * 1000",
    }
}

/// The totals of a tenant; of a deleted one those that were kept. A new tenant with the same id does not have them.
const USED: &str = "(SELECT tenant_id, hour, metric, quantity FROM usage_totals WHERE tenant_id = ?1 UNION ALL \
                     SELECT tenant_id, hour, metric, quantity FROM deleted_usage WHERE tenant_id = ?1 \
                        AND NOT EXISTS (SELECT 1 FROM tenants WHERE id = ?1 AND deletion_started_at IS NULL))";

pub(in crate::database::sql) async fn sum<E: Engine>(
    engine: &E,
    unreadable: &UnreadableRecords,
    call: Call,
    query: &UsageQuery,
) -> Result<Option<Page<UsageSum, UsageCursor>>, StoreError> {
    let after = query.page.after.as_ref();
    let after_start = after.map_or(UnixMillis(i64::MIN), |after| after.start);
    let statement = Statement::new(format!(
        "SELECT coalesce(tenants.id, (SELECT tenant_id FROM deleted_usage WHERE tenant_id = ?1 LIMIT 1)), sums.start, sums.metric, sums.quantity \
         FROM (SELECT 1) LEFT JOIN tenants ON tenants.id = ?1 \
         LEFT JOIN (SELECT {} AS start, metric, sum(quantity) AS quantity FROM {USED} \
                    WHERE tenant_id = ?1 AND hour >= ?2 AND hour < ?3 AND (?4 IS NULL OR metric = ?4) \
                    GROUP BY 1, 2 HAVING start > ?5 OR (start = ?5 AND metric > ?6) \
                    ORDER BY 1, 2 LIMIT ?7) AS sums ON TRUE \
         ORDER BY sums.start, sums.metric",
        bucket_start_sql(query.bucket)
    ))
    .bind(query.tenant_id.as_str())
    // Hours before the page need not be summed again.
    .bind(query.start.start().max(after_start).0)
    .bind(query.end.start().0)
    .bind(query.metric.as_ref().map(UsageMetric::as_str))
    .bind(after_start.0)
    .bind(after.map_or("", |after| after.metric.as_str()))
    .bind(lookahead_limit(query.page.size));
    let rows = engine.query(call, statement).await?;
    let Some(first) = rows.first() else {
        return Err(StoreError::new(FailureKind::InvalidResponse, "a listing returned no rows"));
    };
    if first.optional_text(0)?.is_none() {
        return Ok(None);
    }
    let mut sums = Vec::with_capacity(rows.len());
    let more = rows.len() > query.page.size.get();
    for row in rows.iter().take(query.page.size.get()) {
        // The only row of an empty list.
        let Some(start) = row.optional_integer(1)? else { break };
        // The service records nothing under an invalid metric: skipping it changes no bill.
        let read = unreadable.check(RecordTable::UsageTotals, (row, 0), read_sum(row, UnixMillis(start)));
        sums.extend(read.ok());
    }
    let last = sums.last().map(|sum| UsageCursor { start: sum.start, metric: sum.metric.clone() });
    match (more, last) {
        (true, None) => Err(unreadable_page()),
        (true, next) => Ok(Some(Page { items: sums, next })),
        (false, _) => Ok(Some(Page { items: sums, next: None })),
    }
}

fn read_sum(row: &Row, start: UnixMillis) -> Result<UsageSum, StoreError> {
    Ok(UsageSum { start, metric: parse_metric(row.text(2)?)?, quantity: row.integer(3)? })
}

fn unreadable_page() -> StoreError {
    StoreError::new(FailureKind::InvalidResponse, "all sums of a page are unreadable")
}

pub(super) fn parse_metric(text: &str) -> Result<UsageMetric, StoreError> {
    UsageMetric::parse(text).map_err(|_| unreadable_value("metric"))
}
