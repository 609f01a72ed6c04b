//! Reads the response to an exchange.

use super::{invalid, next_rows};
use crate::{
    database::{
        engine::{Row, Rows},
        sql::rows::unreadable_value,
    },
    domain::{
        clock::UnixMillis,
        limit::{
            EndedReservation, Exchange, ExchangeResponse, LeaseGrant, LimitIdOutcome, LimitName,
            ReservationState, SeenCounter, SettledLimit,
        },
        store::StoreError,
        usage::UsageMetric,
    },
};

/// Reads the results of all statements, in the order in which `statements_of` makes them.
pub(super) fn read(exchange: &Exchange, results: Vec<Rows>) -> Result<ExchangeResponse, StoreError> {
    // The guard, and the count of the exchange.
    let mut results = results.into_iter().skip(2);
    let log = next_rows(&mut results)?;
    let log = single(&log)?;
    let mut response = ExchangeResponse {
        log: log.integer(0)?,
        now: UnixMillis(log.integer(1)?),
        ..ExchangeResponse::default()
    };
    let mut results = results.skip(2);
    if !exchange.ids.is_empty() {
        let skipped = 1 + usize::from(!exchange.reservations.is_empty());
        for _ in 0..skipped {
            next_rows(&mut results)?;
        }
        let rows = next_rows(&mut results)?;
        response.ids = rows.iter().map(read_id).collect::<Result<_, _>>()?;
    }
    if !exchange.ends.is_empty() {
        next_rows(&mut results)?;
        response.ends = read_ends(exchange.ends.len(), &next_rows(&mut results)?)?;
    }
    if !exchange.leases.is_empty() {
        let rows = results.last().unwrap_or_default();
        response.grants = rows.iter().map(read_grant).collect::<Result<_, _>>()?;
    }
    if response.ids.len() != exchange.ids.len() || response.grants.len() != exchange.leases.len() {
        return Err(invalid("an exchange of leases returned too few rows"));
    }
    Ok(response)
}

/// The only row of a statement.
pub(super) fn single(rows: &Rows) -> Result<&Row, StoreError> {
    match rows.as_slice() {
        [row] => Ok(row),
        _ => Err(invalid("a statement of an exchange of leases did not return one row")),
    }
}

fn read_id(row: &Row) -> Result<LimitIdOutcome, StoreError> {
    Ok(match (row.integer(1)? == 1, row.integer(2)? == 1) {
        (true, true) => LimitIdOutcome::New,
        (false, true) => LimitIdOutcome::Repeated,
        (_, false) => LimitIdOutcome::Conflict,
    })
}

fn read_grant(row: &Row) -> Result<Option<LeaseGrant>, StoreError> {
    let Some(granted) = row.optional_integer(1)? else { return Ok(None) };
    Ok(Some(LeaseGrant {
        granted: amount(granted)?,
        window_end: UnixMillis(row.integer(3)?),
        seen: SeenCounter {
            window_start: UnixMillis(row.integer(2)?),
            counted: row.integer(4)?,
            version: row.integer(6)?,
        },
        others: amount(row.integer(5)?.max(0))?,
        left: row.optional_integer(8)?.unwrap_or_default(),
        oldest_bucket: row.optional_integer(9)?.map(UnixMillis),
        is_current: row.integer(7)? == 1,
        credited: row.integer(10)?,
    }))
}

fn read_ends(count: usize, rows: &[Row]) -> Result<Vec<Option<EndedReservation>>, StoreError> {
    let mut ends = vec![None; count];
    for row in rows {
        let index = usize::try_from(row.integer(0)?).ok();
        let end = index
            .and_then(|index| ends.get_mut(index))
            .ok_or_else(|| invalid("an unexpected reservation"))?;
        let Some(state) = row.optional_text(1)? else { continue };
        let state = ReservationState::ALL.into_iter().find(|known| known.as_str() == state);
        let state = state.ok_or_else(|| unreadable_value("state of a reservation"))?;
        let ended: &mut EndedReservation =
            end.get_or_insert_with(|| EndedReservation { state, limits: Vec::new(), ended_before: false });
        ended.ended_before |= row.integer(2)? == 0;
        let name = row.text(3)?;
        // The row of a reservation without limits.
        if !name.is_empty() {
            ended.limits.push(SettledLimit {
                name: LimitName::parse(name).map_err(|_| unreadable_value("name of a limit"))?,
                metric: UsageMetric::parse(row.text(4)?).map_err(|_| unreadable_value("metric"))?,
                reserved: amount(row.integer(5)?)?,
                charged: amount(row.integer(6)?)?,
                exceeded_by: amount(row.integer(7)?.max(0))?,
            });
        }
    }
    Ok(ends)
}

fn amount(value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| unreadable_value("amount"))
}
