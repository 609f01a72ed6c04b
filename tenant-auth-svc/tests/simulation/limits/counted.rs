//! What the database has counted: it is never less than what was admitted, and a denial needs a full counter.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use serde_json::Value as Json;

use super::ledger::{CounterId, LimitRow};
use crate::{
    cluster::{SimulatedCluster, number, text},
    replica::SeededFlaw,
};

/// A replica that was refused does not ask again for this long; a rate is asked for sooner.
const LONGEST_REFUSAL: Duration = Duration::from_secs(9);
const LONGEST_RATE_REFUSAL: Duration = Duration::from_secs(2);
/// An exchange that is under way ends within this real time.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5);

/// What nobody held of each counter, recently.
#[derive(Debug, Default)]
pub(crate) struct FreeAmounts(VecDeque<(Duration, HashMap<CounterId, i64>)>);

impl SimulatedCluster {
    /// Returns the limits in the database that apply to each tenant and to each key.
    pub(crate) fn stored_limits(&self) -> HashMap<CounterId, LimitRow> {
        let read = "SELECT holder.id, l.scope, l.subject, l.name, l.version, l.kind, l.amount, l.period_ms, l.burst, \
                           l.refill_amount, l.on_outage, l.shadow \
                    FROM limits AS l JOIN (SELECT id, 'plan' AS scope, plan AS subject FROM tenants \
                                           UNION ALL SELECT id, 'tenant', id FROM tenants \
                                           UNION ALL SELECT tenant_id || '/' || id, 'key', id FROM api_keys) AS holder \
                    ON holder.scope = l.scope AND holder.subject = l.subject \
                    ORDER BY CASE l.scope WHEN 'plan' THEN 0 ELSE 1 END";
        // A database may have no schema.
        let rows = self.server.query(read).unwrap_or_default();
        let limits = rows.iter().map(|row| {
            let (text, number) = (|at: usize| text(&row[at]).unwrap(), |at: usize| number(&row[at]).unwrap());
            let limit = LimitRow {
                subject: (text(1), text(2)),
                version: number(4),
                kind: text(5),
                amount: number(6),
                period_ms: number(7),
                burst: number(8),
                refill_amount: number(9),
                on_outage: text(10),
                is_shadow: number(11) != 0,
            };
            ((text(0), text(3)), limit)
        });
        // The limit of a tenant replaces that of its plan, which comes first.
        limits.collect()
    }

    /// Records what nobody holds of each counter now.
    pub(crate) fn record_free_amounts(&mut self) {
        self.note_wall_clock();
        let now = self.now();
        let counters = self
            .server
            .query(
                "SELECT iif(key_id = '', tenant_id, tenant_id || '/' || key_id), name, kind, window_start, counted, leased, credited, \
                        CAST(tokens AS INTEGER), refreshed_at FROM limit_counters",
            )
            .unwrap_or_default();
        let mut free = HashMap::<CounterId, i64>::new();
        for row in &counters {
            let id = (text(&row[0]).unwrap(), text(&row[1]).unwrap());
            let Some(limit) = self.limits.ledger.current(&id) else { continue };
            let left =
                free.entry(id).or_insert(if limit.kind == "rate" { limit.burst } else { limit.amount });
            *left = left_of(limit, row, now.wall, *left);
        }
        self.limits.free.0.push_back((now.monotonic, free));
        while self.limits.free.0.front().is_some_and(|(then, _)| *then + LONGEST_REFUSAL < now.monotonic) {
            self.limits.free.0.pop_front();
        }
    }

    /// Returns why a cost may be denied; `None` if there is no reason.
    pub(crate) fn reason_of_denial(
        &self,
        id: &CounterId,
        cost: i64,
        believed: &[Option<LimitRow>],
    ) -> Option<String> {
        let now = self.now();
        let capacity = |limit: &LimitRow| match limit.kind.as_str() {
            "rate" => limit.burst,
            "credits" => i64::MAX,
            _ => limit.amount,
        };
        if believed.iter().flatten().any(|limit| cost > capacity(limit)) {
            return Some("the cost is larger than the limit".to_owned());
        }
        let unsettled = "SELECT 1 FROM database_identity WHERE ? < accepted_at + 10000";
        let unsettled = unsettled.replace('?', &now.wall.to_string());
        if self
            .limits
            .accepted_at
            .is_some_and(|at| now.monotonic < at + LONGEST_REFUSAL + Duration::from_secs(10))
            || !self.server.query(&unsettled).unwrap_or_default().is_empty()
        {
            return Some("the database was accepted just now".to_owned());
        }
        let is_rate = believed.iter().flatten().any(|limit| limit.kind == "rate");
        let longest = if is_rate { LONGEST_RATE_REFUSAL } else { LONGEST_REFUSAL };
        let recent = self.limits.free.0.iter().filter(|(then, _)| *then + longest >= now.monotonic);
        let least = recent.filter_map(|(_, free)| free.get(id)).min()?;
        (*least < cost).then(|| format!("only {least} was free"))
    }

    /// Checks that the database has counted at least what was admitted in a window.
    pub(crate) async fn check_counted(&self, id: &CounterId, window: i64) -> Result<(), String> {
        if self.flaw == SeededFlaw::GrantsWithoutCounting {
            return Ok(());
        }
        let deadline = Instant::now() + EXCHANGE_TIMEOUT;
        let kind = self.limits.ledger.current(id).map(|limit| limit.kind.clone());
        let Some(kind) = kind.filter(|kind| kind != "rate") else { return Ok(()) };
        let read = format!(
            "SELECT coalesce(sum(counted), 0) FROM limit_counters WHERE iif(key_id = '', tenant_id, tenant_id || '/' || key_id) = '{}' \
             AND name = '{}' AND kind = '{kind}' AND window_start = {window}",
            id.0, id.1
        );
        loop {
            let counted =
                number(&self.server.query(&read).map_err(|error| error.to_string())?[0][0]).unwrap();
            let admitted = self.limits.ledger.admitted(id, window);
            if counted >= admitted || !self.limits_work() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "{admitted} of {id:?} was admitted in {window}, and {counted} is counted"
                ));
            }
            // After an operator has accepted a database, replicas report what they know within an exchange.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl SimulatedCluster {
    /// At the end of a simulation, everything that was admitted is counted, and nothing that was not.
    pub(crate) async fn check_all_counted(&self) -> Result<(), String> {
        let windows: Vec<_> = self.limits.ledger.windows().map(|(id, window)| (id.clone(), window)).collect();
        for (id, window) in windows {
            self.check_counted(&id, window).await?;
        }
        let used = "SELECT iif(key_id = '', tenant_id, tenant_id || '/' || key_id), name, kind, \
                           sum(counted - leased - reserved - unaccounted) FROM limit_counters WHERE kind <> 'rate' GROUP BY 1, 2, 3";
        for row in self.server.query(used).map_err(|error| error.to_string())? {
            let (id, kind) = ((text(&row[0]).unwrap(), text(&row[1]).unwrap()), text(&row[2]).unwrap());
            let (used, most) = (number(&row[3]).unwrap(), self.limits.ledger.most_used(&id));
            if most.is_some_and(|most| used > most) {
                return Err(format!(
                    "{used} of {id:?} ({kind}) counts as used, and at most {most:?} was admitted"
                ));
            }
        }
        Ok(())
    }
}

/// What is left of a counter, which is `left` without the other windows of a rolling one.
fn left_of(limit: &LimitRow, row: &Json, at: i64, left: i64) -> i64 {
    let column = |index: usize| number(&row[index]).unwrap();
    let (start, counted, leased, credited) = (column(3), column(4), column(5), column(6));
    if text(&row[2]).unwrap() != limit.kind {
        return left;
    }
    match limit.kind.as_str() {
        "credits" => credited - counted,
        "rate" => {
            let inflow = (at - column(8)).max(0) * limit.amount * 1_000 / limit.period_ms;
            (limit.burst - leased).min((column(7) + inflow) / 1_000)
        }
        kind if kind.starts_with("rolling:") => {
            let is_counted = start > at - limit.period_ms * 17 / 16;
            left - if is_counted { counted } else { 0 }
        }
        _ if start <= at && at < limit.window_end(start) => limit.amount - counted,
        _ => left,
    }
}
