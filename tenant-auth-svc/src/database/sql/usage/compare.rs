//! Compares totals with the sums of their events.

use std::time::Duration;

use super::sums::parse_metric;
use crate::{
    database::{
        engine::{Engine, Row, Statement},
        sql::{
            millis,
            rows::{sql_limit, unreadable_value},
        },
    },
    domain::{
        clock::UnixMillis,
        id::TenantId,
        store::{Call, FailureKind, StoreError},
        usage::{ComparisonCursor, ComparisonPage, Hour, TotalDifference},
    },
};

/// Maximum time span of one page, in milliseconds.
const MAX_PAGE_SPAN_MILLIS: i64 = 24 * 60 * 60 * 1_000;
/// A page ends with the hour before this many events, but has an hour at least: an hour's events are compared at once.
const EVENTS_PER_PAGE: usize = 4_000;

/// The first time whose hours have all of their events: by the retention `?`, and by the oldest remaining request,
/// since events are deleted only after their requests. An empty table of requests proves nothing about earlier ones.
macro_rules! complete {
    ($retention:literal) => {
        concat!(
            "max(",
            now!(),
            " - ",
            $retention,
            ", CASE (SELECT seq FROM usage_requests ORDER BY seq LIMIT 1) WHEN 1 THEN 0 ELSE \
             coalesce((SELECT first_seen_at FROM usage_requests ORDER BY seq LIMIT 1), ",
            now!(),
            ") END) + 3600000"
        )
    };
}
pub(super) use complete;

/// One statement, so that no event is committed between reading the two tables. A tenant that is being deleted has totals
/// without events, so it is skipped.
const COMPARE: &str = concat!(
    "WITH bound (start) AS (SELECT max(?2, ",
    complete!("?6"),
    ")), page (start) AS (SELECT min(hour) FROM ( \
        SELECT * FROM (SELECT hour FROM usage_totals WHERE tenant_id = ?1 AND hour >= (SELECT start FROM bound) \
                       ORDER BY hour LIMIT 1) \
        UNION ALL \
        SELECT * FROM (SELECT hour FROM usage_events WHERE tenant_id = ?1 AND hour >= (SELECT start FROM bound) \
                       ORDER BY hour LIMIT 1)) WHERE hour < ?3 \
          AND NOT EXISTS (SELECT 1 FROM tenants WHERE id = ?1 AND deletion_started_at IS NOT NULL)), \
     stop (hour) AS MATERIALIZED (SELECT min(?3, start + ?7, max(start + 3600000, coalesce( \
        (SELECT hour FROM usage_events WHERE tenant_id = ?1 AND hour >= (SELECT start FROM page) \
         ORDER BY hour LIMIT 1 OFFSET ?8), ?3))) FROM page) \
     SELECT (SELECT hour FROM stop), found.hour, found.metric, found.total, found.events, found.rows \
     FROM (SELECT 1) LEFT JOIN ( \
        SELECT hour, metric, sum(counted) AS total, sum(quantity) AS events, sum(event) AS rows FROM ( \
            SELECT hour, metric, quantity AS counted, 0 AS quantity, 0 AS event FROM usage_totals \
            WHERE tenant_id = ?1 AND hour >= (SELECT start FROM page) \
              AND hour < (SELECT hour FROM stop) \
            UNION ALL \
            SELECT hour, metric, 0, quantity, 1 FROM usage_events \
            WHERE tenant_id = ?1 AND hour >= (SELECT start FROM page) \
              AND hour < (SELECT hour FROM stop)) \
        WHERE hour > ?2 OR metric > ?4 \
        GROUP BY hour, metric HAVING sum(counted) <> sum(quantity) ORDER BY hour, metric LIMIT ?5) AS found ON TRUE \
     ORDER BY found.hour, found.metric"
);

const FIRST_COMPLETE_HOUR: &str = concat!("SELECT ", complete!("?1"));

pub(super) async fn run<E: Engine>(
    engine: &E,
    call: Call,
    tenant: &TenantId,
    (from, end): (&ComparisonCursor, Hour),
    retention: Duration,
    limit: usize,
) -> Result<ComparisonPage, StoreError> {
    let statement = Statement::new(COMPARE)
        .bind(tenant.as_str())
        .bind(from.hour.start().0)
        .bind(end.start().0)
        .bind(from.after.as_ref().map_or("", |metric| metric.as_str()))
        .bind(sql_limit(limit))
        .bind(millis(retention))
        .bind(MAX_PAGE_SPAN_MILLIS)
        .bind(sql_limit(EVENTS_PER_PAGE));
    let rows = engine.query(call, statement).await?;
    let Some(first) = rows.first() else {
        return Err(StoreError::new(FailureKind::InvalidResponse, "a comparison returned no rows"));
    };
    let Some(page_end) = first.optional_integer(0)? else {
        return Ok(ComparisonPage { differences: Vec::new(), next: None });
    };
    let mut differences = Vec::with_capacity(rows.len());
    for row in &rows {
        // The only row of a page without differences.
        if row.optional_integer(1)?.is_some() {
            differences.push(read_difference(tenant, row)?);
        }
    }
    let next = match differences.last() {
        Some(last) if differences.len() >= limit => {
            ComparisonCursor { hour: last.hour, after: Some(last.metric.clone()) }
        }
        // It is an hour or more after the start of this page, so it is a later one.
        _ => ComparisonCursor { hour: Hour::floor(UnixMillis(page_end)), after: None },
    };
    Ok(ComparisonPage { differences, next: Some(next) })
}

pub(super) async fn first_complete_hour<E: Engine>(
    engine: &E,
    call: Call,
    retention: Duration,
) -> Result<Hour, StoreError> {
    let rows = engine.query(call, Statement::new(FIRST_COMPLETE_HOUR).bind(millis(retention))).await?;
    match rows.as_slice() {
        [row] => Ok(Hour::ceil(UnixMillis(row.integer(0)?))),
        _ => Err(StoreError::new(
            FailureKind::InvalidResponse,
            "the first complete hour query did not return one row",
        )),
    }
}

fn read_difference(tenant: &TenantId, row: &Row) -> Result<TotalDifference, StoreError> {
    let start = UnixMillis(row.integer(1)?);
    let hour = Hour::floor(start);
    if hour.start() != start {
        // Written with SQL, and found by no query for its hour.
        return Err(unreadable_value("hour"));
    }
    Ok(TotalDifference {
        tenant_id: tenant.clone(),
        hour,
        metric: parse_metric(row.text(2)?)?,
        total: row.integer(3)?,
        events: row.integer(4)?,
        rows: u64::try_from(row.integer(5)?).unwrap_or_default(),
    })
}
