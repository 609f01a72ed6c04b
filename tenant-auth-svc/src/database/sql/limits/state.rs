//! What is counted of the limits that apply to a tenant or a key.

use super::{
    calendar::{credited_sql, window_end_sql, window_start_sql},
    effective::{effective_sql, holder_sql},
    record::{LIMIT_COLUMNS, read_limit},
};
use crate::{
    database::{
        engine::{Engine, Row, Statement},
        sql::{RecordTable, UnreadableRecords, keys::qualified},
    },
    domain::{
        clock::UnixMillis,
        limit::{Limit, LimitCount, store::LimitHolder},
        store::{Call, FailureKind, StoreError},
    },
};

/// The columns of a limit come after the holder and the time.
const LIMIT_COLUMN: usize = 2;
/// The columns of its counters come after those of the limit.
const COUNT_COLUMN: usize = LIMIT_COLUMN + 15;

pub(super) async fn read<E: Engine>(
    engine: &E,
    unreadable: &UnreadableRecords,
    call: Call,
    holder: &LimitHolder,
) -> Result<Option<Vec<(Limit, LimitCount)>>, StoreError> {
    let rows = engine.query(call, Statement::new(statement(holder)).bind(holder.id())).await?;
    let first = rows
        .first()
        .ok_or_else(|| StoreError::new(FailureKind::InvalidResponse, "a read of limits returned no rows"))?;
    if first.optional_text(0)?.is_none() {
        return Ok(None);
    }
    let has_limit = |row: &&Row| !matches!(row.optional_text(LIMIT_COLUMN), Ok(None));
    let read = |row: &Row| {
        let limit =
            unreadable.check(RecordTable::Limits, (row, LIMIT_COLUMN + 1), read_limit(row, LIMIT_COLUMN))?;
        Ok((limit, read_count(row)?))
    };
    rows.iter().filter(has_limit).map(read).collect::<Result<_, _>>().map(Some)
}

/// One row per limit, and one without a limit if none applies. Of a calendar window, the current one counts; of a rolling
/// one, the buckets that started less than its length and a bucket ago; credits and rates have one counter.
fn statement(holder: &LimitHolder) -> String {
    let window = "CASE effective.kind WHEN 'credits' THEN effective.refill_every ELSE effective.kind END";
    let now = "clock.now";
    let first_counted = format!(
        "coalesce({}, iif(effective.kind LIKE 'rolling:%', {now} - effective.period_ms - effective.period_ms / 16 + 1, 0))",
        window_start_sql("effective.kind", now)
    );
    format!(
        "{}, clock AS (SELECT {} AS now) \
         SELECT holder.tenant_id, clock.now, {}, \
            coalesce(sum(counter.counted), 0), coalesce(sum(counter.leased), 0), coalesce(sum(counter.reserved), 0), \
            coalesce(sum(counter.unaccounted), 0), coalesce(max({}), effective.amount), CAST(max(counter.tokens) AS INTEGER), \
            max(counter.refreshed_at), {}, {}, min(CASE WHEN counter.counted > 0 THEN counter.window_start END) \
         FROM clock LEFT JOIN holder ON TRUE LEFT JOIN effective ON TRUE \
         LEFT JOIN limit_counters AS counter ON counter.tenant_id = holder.tenant_id \
            AND counter.key_id = iif(effective.scope = 'key', holder.key_id, '') AND counter.name = effective.name \
            AND counter.kind = effective.kind AND counter.window_start BETWEEN {first_counted} AND {now} \
         GROUP BY effective.name ORDER BY effective.name",
        effective_sql(holder_sql(holder), "TRUE"),
        now!(),
        qualified("effective", LIMIT_COLUMNS),
        credited_sql("effective", "counter", now),
        window_start_sql(window, now),
        window_end_sql(window, now),
    )
}

fn read_count(row: &Row) -> Result<LimitCount, StoreError> {
    let integer = |column: usize| row.integer(COUNT_COLUMN + column);
    let optional = |column: usize| row.optional_integer(COUNT_COLUMN + column);
    let time = |column| Ok::<_, StoreError>(optional(column)?.map(UnixMillis));
    Ok(LimitCount {
        now: UnixMillis(row.integer(1)?),
        counted: integer(0)?,
        leased: integer(1)?,
        reserved: integer(2)?,
        unaccounted: integer(3)?,
        credited: integer(4)?,
        bucket: optional(5)?.zip(time(6)?),
        window: time(7)?.zip(time(8)?),
        first_used: time(9)?,
    })
}
