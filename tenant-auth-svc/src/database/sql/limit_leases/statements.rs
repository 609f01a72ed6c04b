//! The statements of an exchange.
//!
//! All take the requests as `?1`, one JSON object each, and most the holder as `?2`. The time of the exchange is that of its
//! first statement, so that a window does not end between two of them.

use std::sync::LazyLock;

use crate::database::sql::limits::credited_sql;

/// The requests, with the window that each is about.
macro_rules! requests {
    () => {
        "(SELECT r.*, log.at AS at, CASE WHEN r.ws IS NOT NULL THEN r.ws \
            WHEN r.kind = 'hour' THEN log.at - log.at % 3600000 \
            WHEN r.kind = 'day' THEN log.at - log.at % 86400000 \
            WHEN r.kind = 'month' THEN CAST(strftime('%s', log.at / 1000, 'unixepoch', 'start of month') AS INTEGER) * 1000 \
            WHEN r.kind LIKE 'rolling:%' THEN log.at - log.at % (CAST(substr(r.kind, 9) AS INTEGER) / 16) \
            ELSE 0 END AS start \
         FROM (SELECT key AS i, value ->> 't' AS t, value ->> 'k' AS k, value ->> 'n' AS n, value ->> 'kind' AS kind, \
                      value ->> 'sc' AS sc, value ->> 'su' AS su, value ->> 'v' AS v, value ->> 'ws' AS ws, \
                      value ->> 'u' AS u, value ->> 'b' AS b, value ->> 'h' AS h, value ->> 'idle' AS idle, \
                      value ->> 'need' AS need, value ->> 'want' AS want, value ->> 'seq' AS seq, \
                      value ->> 'rep' AS rep, value ->> 'sw' AS sw, value ->> 'sv' AS sv, value ->> 'sx' AS sx, value ->> 'ttl' AS ttl FROM json_each(?1)) AS r, \
              limit_log AS log)"
    };
}

/// The counter, the lease and the limit of each request `x`.
macro_rules! counters {
    () => {
        " JOIN limit_counters AS c ON c.tenant_id = x.t AND c.key_id = x.k AND c.name = x.n AND c.kind = x.kind \
                                AND c.window_start = x.start"
    };
}
macro_rules! leases {
    () => {
        " JOIN limit_leases AS q ON q.holder = ?2 AND q.tenant_id = x.t AND q.key_id = x.k AND q.name = x.n \
                              AND q.kind = x.kind AND q.window_start = x.start"
    };
}
macro_rules! limits {
    () => {
        " JOIN limits AS l ON l.scope = x.sc AND l.subject = x.su AND l.name = x.n AND l.version = x.v"
    };
}

/// The buckets of a rolling window that count at `$x.at`, as conditions on `p`.
macro_rules! rolling {
    ($x:literal) => {
        concat!(
            "p.tenant_id = ",
            $x,
            ".t AND p.key_id = ",
            $x,
            ".k AND p.name = ",
            $x,
            ".n AND p.kind = ",
            $x,
            ".kind \
             AND p.window_start > ",
            $x,
            ".at - CAST(substr(",
            $x,
            ".kind, 9) AS INTEGER) * 17 / 16"
        )
    };
}

/// Whether anything is granted: for a while after an operator has accepted a database as it is, replicas first report what they
/// know.
macro_rules! is_settled {
    () => {
        "x.at >= (SELECT accepted_at FROM database_identity) + 10000"
    };
}

/// If the clock of the database goes back to an earlier window, what was counted in that window still counts.
pub(super) const COUNT_EXCHANGE: &str = concat!("UPDATE limit_log SET seq = seq + 1, at = ", now!());

pub(super) const READ_LOG: &str = "SELECT seq, at FROM limit_log";

/// Leases whose holder has not reported for their time. The clocks of a holder and of the database may run at different
/// speeds, so a second is added.
pub(super) const EXPIRE_LEASES: &str = "\
DELETE FROM limit_leases WHERE rowid IN (SELECT rowid FROM limit_leases WHERE expires_at < (SELECT at FROM limit_log) - 1000 \
                                         ORDER BY expires_at LIMIT ?1)";

pub(super) const EXPIRE_RESERVATIONS: &str = "\
UPDATE limit_reservations SET state = 'expired', charged = iif(on_expiry = 'charge', amount, 0) \
WHERE rowid IN (SELECT rowid FROM limit_reservations WHERE state = 'held' AND expires_at <= (SELECT at FROM limit_log) \
                ORDER BY expires_at LIMIT ?1)";

/// A window that a lease is asked from begins with nothing counted.
pub(super) const INSERT_COUNTERS: &str = concat!(
    "INSERT INTO limit_counters (tenant_id, key_id, name, kind, window_start, window_end, credited, tokens, refreshed_at) \
     SELECT x.t, x.k, x.n, x.kind, x.start, \
            CASE WHEN x.kind = 'hour' THEN x.start + 3600000 WHEN x.kind = 'day' THEN x.start + 86400000 \
                 WHEN x.kind = 'month' THEN CAST(strftime('%s', x.start / 1000, 'unixepoch', '+1 month') AS INTEGER) * 1000 \
                 WHEN x.kind LIKE 'rolling:%' THEN x.start + CAST(substr(x.kind, 9) AS INTEGER) / 16 \
                 ELSE 253402300799999 END, \
            iif(x.kind = 'credits', l.amount, 0), iif(x.kind = 'rate', l.burst * 1000, 0), x.at FROM ",
    requests!(),
    " AS x",
    limits!(),
    " WHERE x.need + x.want + x.sx > 0 AND EXISTS (SELECT 1 FROM tenants WHERE id = x.t) ON CONFLICT DO NOTHING"
);

/// Whether a replica has seen a later state of the counter. A database that was restored from a backup has an older version;
/// until it is settled, another replica's report may have raised the version past what this one has seen. A replica that knows
/// a former limit has seen what was forgotten with it.
macro_rules! has_seen_more {
    () => {
        concat!("x.sw = x.start AND ((c.version < x.sv AND l.name IS NOT NULL) OR NOT (", is_settled!(), "))")
    };
}

/// In a database that was restored from a backup, what a replica has seen counted is counted again.
///
/// Quotas and credits: takes back what is returned and grants what is left, at most. What the lease was before is `old`; a
/// replica whose lease has expired reports what became `lost` then. No more is given back than is counted for the replica. A
/// repeated exchange whose lease has expired gives nothing back: the first one may have done so. What a replica holds of a
/// counter that was forgotten counts in its successor until it is given back.
pub(super) static EXCHANGE_AMOUNTS: LazyLock<String> = LazyLock::new(|| {
    // Without the limit, there is nothing to refill.
    let credited =
        format!("CASE WHEN l.name IS NULL THEN c.credited ELSE {} END", credited_sql("l", "c", "x.at"));
    [EXCHANGE_AMOUNTS_UNTIL_CREDITED, &credited, EXCHANGE_AMOUNTS_AFTER_CREDITED].concat()
});

const EXCHANGE_AMOUNTS_UNTIL_CREDITED: &str = concat!(
    "UPDATE limit_counters SET counted = y.base + y.granted, credited = y.credited, \
        refreshed_at = max(limit_counters.refreshed_at, y.at), last_grant = y.granted, \
        leased = max(0, leased - y.old + y.h + y.granted), unaccounted = max(0, unaccounted - y.lost), \
        version = max(version, y.sv) + 1 \
     FROM (SELECT z.*, iif(z.is_open, min(z.need, max(z.room, 0)) + min(z.want, max(z.room - z.need, 0) / 4), 0) AS granted \
      FROM (SELECT w.*, CASE WHEN w.kind = 'credits' THEN w.credited - w.base \
                WHEN w.kind LIKE 'rolling:%' THEN w.amount - w.base - coalesce((SELECT sum(p.counted) FROM limit_counters AS p WHERE ",
    rolling!("w"),
    " AND p.window_start <> w.start), 0) ELSE w.amount - w.base END AS room \
       FROM (SELECT x.*, c.rowid AS id, coalesce(q.amount, 0) AS old, iif(q.holder IS NULL, iif(x.rep, 0, x.u + x.b) + x.h, 0) AS lost, \
                    l.amount AS amount, max(0, max(c.counted, iif(",
    has_seen_more!(),
    ", x.sx, 0)) \
                    - min(x.b, iif(q.holder IS NULL, iif(x.rep, 0, c.unaccounted), q.amount))) \
                    + iif(q.holder IS NULL AND NOT coalesce(",
    has_seen_more!(),
    ", FALSE), max(0, x.h - c.unaccounted), 0) AS base, ",
);

const EXCHANGE_AMOUNTS_AFTER_CREDITED: &str = concat!(
    " AS credited, l.name IS NOT NULL AND c.window_end > x.at AND ",
    is_settled!(),
    " AS is_open FROM ",
    requests!(),
    " AS x",
    counters!(),
    " LEFT",
    leases!(),
    " LEFT",
    limits!(),
    " WHERE x.kind <> 'rate' AND (q.seq IS NULL OR q.seq < x.seq)) AS w) AS z) AS y WHERE limit_counters.rowid = y.id"
);

/// Rates: the bucket fills up to its capacity less what is leased. What was used freed its part of the capacity at the time
/// of the last use at the latest.
pub(super) const EXCHANGE_RATES: &str = concat!(
    "UPDATE limit_counters SET tokens = y.level - y.granted * 1000, leased = y.held_after + y.granted, refreshed_at = y.at, \
        last_grant = y.granted, version = max(version, y.sv) + 1 \
     FROM (SELECT z.*, iif(z.is_open, min(z.need, CAST(z.level / 1000 AS INTEGER)) \
                          + min(z.want, max(CAST(z.level / 1000 AS INTEGER) - z.need, 0) / 4), 0) AS granted \
      FROM (SELECT w.*, min(max(w.burst - w.held_after, 0) * 1000.0, \
                            min(max(w.burst - w.held_before, 0) * 1000.0, w.tokens + w.flow * (w.elapsed - w.since_use)) \
                            + w.flow * w.since_use + iif(w.is_gone, 0, w.b) * 1000.0) AS level \
       FROM (SELECT v.*, min(max(v.idle, 0), v.elapsed) AS since_use, \
                    max(0, v.held_before - iif(v.is_gone, 0, v.u + v.b)) AS held_after \
        FROM (SELECT x.*, c.rowid AS id, iif(",
    has_seen_more!(),
    ", 0, c.tokens) AS tokens, c.leased AS held_before, q.holder IS NULL AS is_gone, \
                     coalesce(l.burst, 0) AS burst, coalesce(l.amount * 1000.0 / l.period_ms, 0) AS flow, \
                     max(0, x.at - c.refreshed_at) AS elapsed, l.name IS NOT NULL AND ",
    is_settled!(),
    " AS is_open FROM ",
    requests!(),
    " AS x",
    counters!(),
    " LEFT",
    leases!(),
    " LEFT",
    limits!(),
    " WHERE x.kind = 'rate' AND (q.seq IS NULL OR q.seq < x.seq)) AS v) AS w) AS z) AS y WHERE limit_counters.rowid = y.id"
);

/// After the counters, so that `last_grant` is that of this exchange.
pub(super) const STORE_LEASES: &str = concat!(
    "INSERT INTO limit_leases (holder, tenant_id, key_id, name, kind, window_start, amount, seq, last_grant, expires_at) \
     SELECT ?2, x.t, x.k, x.n, x.kind, x.start, x.h + c.last_grant, x.seq, c.last_grant, x.at + x.ttl FROM ",
    requests!(),
    " AS x",
    counters!(),
    " WHERE TRUE ON CONFLICT (holder, tenant_id, key_id, name, kind, window_start) \
     DO UPDATE SET amount = excluded.amount, seq = excluded.seq, last_grant = excluded.last_grant, expires_at = excluded.expires_at \
     WHERE excluded.seq > limit_leases.seq"
);

/// Asks other replicas, through the change log, to give back what they do not need. Rates flow in again by themselves.
pub(super) const WANT_LEASES: &str = concat!(
    "UPDATE limit_counters SET wanted_at = y.at FROM (SELECT c.rowid AS id, x.at AS at FROM ",
    requests!(),
    " AS x",
    counters!(),
    leases!(),
    " WHERE x.kind <> 'rate' AND x.need > q.last_grant AND c.leased > q.amount AND c.wanted_at < x.at - 2000) AS y \
     WHERE limit_counters.rowid = y.id"
);

/// One row for each request.
pub(super) const READ_GRANTS: &str = concat!(
    "SELECT x.i, q.last_grant, c.window_start, c.window_end, c.counted, c.leased - q.amount, c.version, l.name IS NOT NULL, \
            CASE WHEN x.kind = 'rate' THEN CAST(c.tokens / 1000 AS INTEGER) WHEN x.kind = 'credits' THEN c.credited - c.counted \
                 WHEN x.kind LIKE 'rolling:%' THEN l.amount - (SELECT sum(p.counted) FROM limit_counters AS p WHERE ",
    rolling!("x"),
    ") ELSE l.amount - c.counted END, \
            CASE WHEN x.kind LIKE 'rolling:%' THEN (SELECT min(p.window_start) FROM limit_counters AS p WHERE ",
    rolling!("x"),
    " AND p.counted > 0) END, c.credited FROM ",
    requests!(),
    " AS x LEFT",
    counters!(),
    " LEFT",
    leases!(),
    " LEFT",
    limits!(),
    " ORDER BY x.i"
);

/// `?2`: the exchange.
pub(super) const INSERT_IDS: &str = "\
INSERT INTO limit_ids (id, batch, fingerprint, at) \
SELECT value ->> 'id', ?2, unhex(value ->> 'fingerprint'), log.at FROM json_each(?1), limit_log AS log \
WHERE TRUE ON CONFLICT (id) DO NOTHING";

/// One row for each id.
pub(super) const READ_IDS: &str = "\
SELECT ids.key, stored.batch = ?2, stored.fingerprint = unhex(ids.value ->> 'fingerprint') \
FROM json_each(?1) AS ids LEFT JOIN limit_ids AS stored ON stored.id = ids.value ->> 'id' ORDER BY ids.key";

/// One row: whether the id was recorded for the same thing, or NULL.
pub(super) const FIND_ID: &str =
    "SELECT stored.fingerprint = unhex(?2) FROM (SELECT 1) LEFT JOIN limit_ids AS stored ON stored.id = ?1";

/// Reservations whose ids this exchange has recorded.
pub(super) const INSERT_RESERVATIONS: &str = "\
INSERT INTO limit_reservations (id, name, metric, scope, subject, tenant_id, key_id, kind, window_start, amount, state, on_expiry, expires_at) \
SELECT value ->> 'id', value ->> 'name', value ->> 'metric', value ->> 'scope', value ->> 'subject', value ->> 'tenant', \
       value ->> 'key', value ->> 'kind', value ->> 'window', value ->> 'amount', 'held', value ->> 'on_expiry', \
       log.at + (value ->> 'expires_in') \
FROM json_each(?1), limit_log AS log \
WHERE EXISTS (SELECT 1 FROM limit_ids WHERE limit_ids.id = 'reserve:' || (value ->> 'id') AND batch = ?2) ON CONFLICT DO NOTHING";

/// Settles and cancels. A reservation that has expired is settled from what was charged then. Of a rate, nothing is given back.
pub(super) const END_RESERVATIONS: &str = "\
UPDATE limit_reservations SET state = y.op, charged = y.charged, exceeded_by = y.actual - y.charged, ended_by = ?2 \
     FROM (SELECT w.*, iif(w.op = 'cancelled', 0, min(w.actual, w.base) + min(max(w.actual - w.base, 0), max(w.room, 0))) AS charged \
      FROM (SELECT r.rowid AS id, x.op AS op, iif(r.state = 'held', r.amount, r.charged) AS base, \
                   CASE WHEN x.op = 'cancelled' THEN 0 ELSE coalesce((SELECT value ->> '$[1]' FROM json_each(x.actual) \
                             WHERE value ->> '$[0]' = r.metric), r.amount) END AS actual, \
                   CASE WHEN l.name IS NULL THEN 0 WHEN r.kind = 'rate' THEN 1000000000000 \
                        WHEN r.kind = 'credits' THEN c.credited - c.counted \
                        WHEN r.kind LIKE 'rolling:%' THEN l.amount - (SELECT coalesce(sum(p.counted), 0) FROM limit_counters AS p \
                             WHERE p.tenant_id = r.tenant_id AND p.key_id = r.key_id AND p.name = r.name AND p.kind = r.kind \
                               AND p.window_start > min((SELECT at FROM limit_log), r.window_start) - CAST(substr(r.kind, 9) AS INTEGER) * 17 / 16) \
                        ELSE l.amount - c.counted END AS room \
       FROM (SELECT value ->> 'id' AS id, value ->> 'op' AS op, value -> 'actual' AS actual FROM json_each(?1)) AS x \
       JOIN limit_reservations AS r ON r.id = x.id AND (r.state = 'held' OR (r.state = 'expired' AND x.op = 'settled')) \
       LEFT JOIN limit_counters AS c ON c.tenant_id = r.tenant_id AND c.key_id = r.key_id AND c.name = r.name AND c.kind = r.kind \
                                    AND c.window_start = r.window_start \
       LEFT JOIN limits AS l ON l.scope = r.scope AND l.subject = r.subject AND l.name = r.name) AS w) AS y \
     WHERE limit_reservations.rowid = y.id";

/// One row for each limit of each reservation, and one for a reservation that does not exist.
pub(super) const READ_ENDED: &str = "\
SELECT ends.key, r.state, r.ended_by = ?2, r.name, r.metric, r.amount, r.charged, r.exceeded_by \
FROM json_each(?1) AS ends LEFT JOIN limit_reservations AS r ON r.id = ends.value ->> 'id' ORDER BY ends.key, r.name";

/// Windows are kept for a month after their end, so that the state of the last ones can be read.
pub(super) const SWEEP_COUNTERS: &str = concat!(
    "DELETE FROM limit_counters WHERE rowid IN (SELECT rowid FROM limit_counters WHERE window_end < ",
    now!(),
    " - 2764800000 AND (kind NOT LIKE 'rolling:%' OR window_end < ",
    now!(),
    " - CAST(substr(kind, 9) AS INTEGER) - 86400000) ORDER BY window_end LIMIT ?1)"
);

/// A day after their expiry, which is at most a day after their start.
pub(super) const SWEEP_RESERVATIONS: &str = concat!(
    "DELETE FROM limit_reservations WHERE rowid IN (SELECT rowid FROM limit_reservations WHERE expires_at < ",
    now!(),
    " - 86400000 AND state <> 'held' ORDER BY expires_at LIMIT ?1)"
);

/// Two days: reservations refer to ids, and live for up to two days. Adjustments of credits count once for ever.
pub(super) const SWEEP_IDS: &str = concat!(
    "DELETE FROM limit_ids WHERE seq IN (SELECT seq FROM limit_ids WHERE (id < 'credit:' OR id >= 'credit;') AND at < ",
    now!(),
    " - 176400000 ORDER BY at LIMIT ?1)"
);
