//! The exchange of leases: what a replica has used, what it gives back, and what it is granted, in one transaction.

mod response;
mod statements;

use serde::Serialize;

use self::statements as sql;
use super::{Engine, SqlStore, lookup::to_json, millis};
use crate::{
    database::engine::{Row, Rows, Statement, WRONG_DATABASE_MARKER},
    domain::{
        limit::{
            Exchange, ExchangeResponse, HolderId, LeaseRequest, LeaseStore, LimitIdOutcome, NewLimitId,
            NewReservation, ReservationEnd,
        },
        store::{Call, FailureKind, StoreError},
    },
};

/// How many expired leases and reservations an exchange ends: the sweep ends the rest.
const EXPIRIES_PER_EXCHANGE: i64 = 200;

impl<E: Engine> LeaseStore for SqlStore<E> {
    async fn exchange(
        &self,
        call: Call,
        holder: &HolderId,
        exchange: &Exchange,
    ) -> Result<ExchangeResponse, StoreError> {
        let steps = statements_of(holder, exchange)?;
        let results = self.engine.transaction(call, steps).await?;
        response::read(exchange, results)
    }

    async fn find_limit_id(&self, call: Call, id: &NewLimitId) -> Result<Option<LimitIdOutcome>, StoreError> {
        // A read replica may not know it yet.
        let find = Statement::new(sql::FIND_ID).at_primary();
        let find = find.bind(id.id.as_str()).bind(hex::encode(id.fingerprint));
        let rows = self.engine.query(call, find).await?;
        let is_same = response::single(&rows)?.optional_integer(0)?;
        Ok(is_same
            .map(|is_same| if is_same == 1 { LimitIdOutcome::Repeated } else { LimitIdOutcome::Conflict }))
    }

    async fn sweep_limits(&self, call: Call, limit: usize) -> Result<bool, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut steps = vec![Statement::new(sql::COUNT_EXCHANGE)];
        for delete in [
            sql::EXPIRE_LEASES,
            sql::EXPIRE_RESERVATIONS,
            sql::SWEEP_COUNTERS,
            sql::SWEEP_RESERVATIONS,
            sql::SWEEP_IDS,
        ] {
            steps.push(Statement::new(delete).bind(limit));
            steps.push(Statement::new("SELECT changes()"));
        }
        let results = self.engine.transaction(call, steps).await?;
        let counts = results.iter().skip(2).step_by(2).map(|rows| response::single(rows)?.integer(0));
        Ok(counts.collect::<Result<Vec<_>, _>>()?.into_iter().any(|count| count >= limit))
    }
}

/// The positions of the statements that [`response::read`] reads. Parts without entries have no statements.
struct Steps {
    statements: Vec<Statement>,
}

impl Steps {
    fn push(&mut self, sql: &'static str) -> &mut Statement {
        self.statements.push(Statement::new(sql));
        // Just pushed.
        let last = self.statements.len() - 1;
        &mut self.statements[last]
    }

    fn add(&mut self, sql: &'static str, json: &str, second: impl Into<crate::database::engine::SqlValue>) {
        let statement = self.push(sql);
        statement.args.push(json.into());
        // Statements without a second parameter must not be given one.
        if sql.contains("?2") {
            statement.args.push(second.into());
        }
    }
}

fn statements_of(holder: &HolderId, exchange: &Exchange) -> Result<Vec<Statement>, StoreError> {
    let mut steps = Steps { statements: Vec::new() };
    let guard = format!(
        "SELECT CASE WHEN seq >= ?1 THEN 1 ELSE json_extract('{{}}', '{WRONG_DATABASE_MARKER}' || \
         (SELECT id || ' ' || epoch || ' ' || replaces FROM database_identity)) END FROM limit_log"
    );
    steps.statements.push(Statement::new(guard).bind(exchange.known_log));
    steps.push(sql::COUNT_EXCHANGE);
    steps.push(sql::READ_LOG);
    steps.push(sql::EXPIRE_LEASES).args.push(EXPIRIES_PER_EXCHANGE.into());
    steps.push(sql::EXPIRE_RESERVATIONS).args.push(EXPIRIES_PER_EXCHANGE.into());
    if !exchange.ids.is_empty() {
        let ids: Vec<_> = exchange
            .ids
            .iter()
            .map(|id| IdArgs { id: &id.id, fingerprint: hex::encode(id.fingerprint) })
            .collect();
        let ids = to_json(&ids)?;
        steps.add(sql::INSERT_IDS, &ids, exchange.id);
        if !exchange.reservations.is_empty() {
            let rows: Vec<_> = exchange.reservations.iter().flat_map(reservation_args).collect();
            steps.add(sql::INSERT_RESERVATIONS, &to_json(&rows)?, exchange.id);
        }
        steps.add(sql::READ_IDS, &ids, exchange.id);
    }
    if !exchange.ends.is_empty() {
        let ends: Vec<_> = exchange.ends.iter().map(|(id, end)| end_args(id, end)).collect();
        let ends = to_json(&ends)?;
        steps.add(sql::END_RESERVATIONS, &ends, exchange.id);
        steps.add(sql::READ_ENDED, &ends, exchange.id);
    }
    if !exchange.leases.is_empty() {
        let rows: Vec<_> =
            exchange.leases.iter().map(|request| lease_args(request, exchange.is_repeated)).collect();
        let rows = to_json(&rows)?;
        for statement in [
            sql::INSERT_COUNTERS,
            sql::EXCHANGE_AMOUNTS.as_str(),
            sql::EXCHANGE_RATES,
            sql::STORE_LEASES,
            sql::WANT_LEASES,
            sql::READ_GRANTS,
        ] {
            steps.add(statement, &rows, holder.as_str());
        }
    }
    Ok(steps.statements)
}

#[derive(Serialize)]
struct IdArgs<'a> {
    id: &'a str,
    fingerprint: String,
}

/// One request: the names are those of the macro `requests!`.
#[derive(Serialize)]
struct LeaseArgs<'a> {
    t: &'a str,
    k: &'a str,
    n: &'a str,
    kind: &'a str,
    sc: &'a str,
    su: &'a str,
    v: i64,
    ws: Option<i64>,
    u: u64,
    b: u64,
    h: u64,
    idle: i64,
    need: u64,
    want: u64,
    seq: i64,
    rep: bool,
    sw: Option<i64>,
    sv: i64,
    sx: i64,
    ttl: i64,
}

fn lease_args(request: &LeaseRequest, is_repeated: bool) -> LeaseArgs<'_> {
    let (subject, version) = &request.limit;
    let seen = request.seen;
    LeaseArgs {
        t: request.counter.tenant_id.as_str(),
        k: request.counter.key_id.as_ref().map_or("", |id| id.as_str()),
        n: request.counter.name.as_str(),
        kind: &request.counter.kind,
        sc: subject.scope(),
        su: subject.id(),
        v: *version,
        ws: request.window_start.map(|start| start.0),
        u: request.used,
        b: request.returned,
        h: request.held,
        idle: millis(request.idle),
        need: request.need,
        want: request.want,
        seq: request.seq,
        rep: is_repeated,
        sw: seen.map(|seen| seen.window_start.0),
        sv: seen.map_or(0, |seen| seen.version),
        sx: seen.map_or(0, |seen| seen.counted),
        ttl: millis(request.ttl),
    }
}

#[derive(Serialize)]
struct ReservationArgs<'a> {
    id: &'a str,
    name: &'a str,
    metric: &'a str,
    scope: &'a str,
    subject: &'a str,
    tenant: &'a str,
    key: &'a str,
    kind: &'a str,
    window: i64,
    amount: u64,
    on_expiry: &'static str,
    expires_in: i64,
}

/// A reservation without limits has one row, so that it can be settled.
fn reservation_args(reservation: &NewReservation) -> Vec<ReservationArgs<'_>> {
    let empty = ReservationArgs {
        id: &reservation.id,
        name: "",
        metric: "",
        scope: "",
        subject: "",
        tenant: "",
        key: "",
        kind: "",
        window: 0,
        amount: 0,
        on_expiry: if reservation.charge_on_expiry { "charge" } else { "release" },
        expires_in: millis(reservation.expires_in),
    };
    if reservation.limits.is_empty() {
        return vec![empty];
    }
    let rows = reservation.limits.iter().map(|limit| ReservationArgs {
        name: limit.counter.name.as_str(),
        metric: limit.metric.as_str(),
        scope: limit.subject.scope(),
        subject: limit.subject.id(),
        tenant: limit.counter.tenant_id.as_str(),
        key: limit.counter.key_id.as_ref().map_or("", |id| id.as_str()),
        kind: &limit.counter.kind,
        window: limit.window_start.0,
        amount: limit.amount,
        ..empty
    });
    rows.collect()
}

#[derive(Serialize)]
struct EndArgs<'a> {
    id: &'a str,
    op: &'static str,
    actual: Vec<(&'a str, u64)>,
}

fn end_args<'a>(id: &'a str, end: &'a ReservationEnd) -> EndArgs<'a> {
    match end {
        ReservationEnd::Cancel => EndArgs { id, op: "cancelled", actual: Vec::new() },
        ReservationEnd::Settle(actual) => {
            let actual = actual.iter().map(|(metric, amount)| (metric.as_str(), *amount)).collect();
            EndArgs { id, op: "settled", actual }
        }
    }
}

fn invalid(what: &'static str) -> StoreError {
    StoreError::new(FailureKind::InvalidResponse, what)
}

/// The rows of one statement.
fn next_rows(results: &mut impl Iterator<Item = Rows>) -> Result<Vec<Row>, StoreError> {
    results.next().ok_or_else(|| invalid("an exchange of leases returned too few results"))
}
