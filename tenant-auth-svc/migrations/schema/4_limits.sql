-- Limits, what is used of them, and the leases that replicas hold.
--
-- Times are unix milliseconds.

-- scope is 'plan', 'tenant' or 'key'; subject is the plan's name or the id. version is the position of the change in the log, so
-- that a limit that is deleted and set again has another one. amount is that of a quota or a rate, or the initial credits;
-- period_ms is the length of a rolling window or the period of a rate.
CREATE TABLE limits (
    scope         TEXT    NOT NULL,
    subject       TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    metric        TEXT    NOT NULL,
    kind          TEXT    NOT NULL,
    amount        INTEGER NOT NULL,
    period_ms     INTEGER NOT NULL DEFAULT 0,
    burst         INTEGER NOT NULL DEFAULT 0,
    refill_amount INTEGER NOT NULL DEFAULT 0,
    refill_every  TEXT    NOT NULL DEFAULT '',
    max_balance   INTEGER NOT NULL DEFAULT 0,
    on_outage     TEXT    NOT NULL,
    shadow        INTEGER NOT NULL DEFAULT 0,
    version       INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    PRIMARY KEY (scope, subject, name)
);

-- One row for each limit in use and window. key_id is empty for what all keys of the tenant share. counted is all that is
-- used, leased, reserved or unaccounted, and never more than the limit; credited is what credits were added; tokens (in
-- thousandths) is the level of a rate's bucket at refreshed_at. tokens and leased together are never more than the capacity.
CREATE TABLE limit_counters (
    tenant_id    TEXT    NOT NULL,
    key_id       TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    kind         TEXT    NOT NULL,
    window_start INTEGER NOT NULL,
    window_end   INTEGER NOT NULL,
    counted      INTEGER NOT NULL DEFAULT 0,
    leased       INTEGER NOT NULL DEFAULT 0,
    reserved     INTEGER NOT NULL DEFAULT 0,
    unaccounted  INTEGER NOT NULL DEFAULT 0,
    credited     INTEGER NOT NULL DEFAULT 0,
    tokens       REAL    NOT NULL DEFAULT 0,
    refreshed_at INTEGER NOT NULL,
    version      INTEGER NOT NULL DEFAULT 0,
    last_grant   INTEGER NOT NULL DEFAULT 0,
    wanted_at    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, key_id, name, kind, window_start)
);

-- Sweeps delete windows in this order.
CREATE INDEX limit_counters_by_end ON limit_counters (window_end);

-- What each replica holds. holder is drawn at each start of a replica. seq is the number of its last exchange, so that a
-- repeated one has no effect.
CREATE TABLE limit_leases (
    holder       TEXT    NOT NULL,
    tenant_id    TEXT    NOT NULL,
    key_id       TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    kind         TEXT    NOT NULL,
    window_start INTEGER NOT NULL,
    amount       INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    last_grant   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    PRIMARY KEY (holder, tenant_id, key_id, name, kind, window_start)
);

CREATE INDEX limit_leases_by_expiry ON limit_leases (expires_at);

-- One row for each limit of a reservation. scope and subject are those of the limit. state is 'held', 'settled', 'cancelled' or
-- 'expired'; charged is what counts once it is no longer held; ended_by is the exchange that ended it, so that a repeated one
-- recognises its own. A reservation without limits has one row without a name.
CREATE TABLE limit_reservations (
    id           TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    metric       TEXT    NOT NULL,
    scope        TEXT    NOT NULL,
    subject      TEXT    NOT NULL,
    tenant_id    TEXT    NOT NULL,
    key_id       TEXT    NOT NULL,
    kind         TEXT    NOT NULL,
    window_start INTEGER NOT NULL,
    amount       INTEGER NOT NULL,
    charged      INTEGER NOT NULL DEFAULT 0,
    exceeded_by  INTEGER NOT NULL DEFAULT 0,
    state        TEXT    NOT NULL,
    on_expiry    TEXT    NOT NULL,
    expires_at   INTEGER NOT NULL,
    ended_by     INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (id, name)
);

CREATE INDEX limit_reservations_held ON limit_reservations (expires_at) WHERE state = 'held';

CREATE INDEX limit_reservations_by_expiry ON limit_reservations (expires_at);

-- What counts once: ids of consumption, and of adjustments of credits.
CREATE TABLE limit_ids (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT    NOT NULL UNIQUE,
    batch       INTEGER NOT NULL,
    fingerprint BLOB    NOT NULL,
    at          INTEGER NOT NULL
);

-- Those that a sweep deletes. Adjustments of credits count once for ever.
CREATE INDEX limit_ids_expiring ON limit_ids (at) WHERE id < 'credit:' OR id >= 'credit;';

-- One row: rises with each exchange of leases, so that a database that was restored from a backup is noticed even if no other
-- change shows it. at is the time of the exchange under way, the same in all its statements.
CREATE TABLE limit_log (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    seq  INTEGER NOT NULL,
    at   INTEGER NOT NULL
);

INSERT INTO limit_log (only, seq, at) VALUES (1, 0, 0);

-- A change of a plan's limits has no tenant: it concerns all tenants with the plan.
CREATE TRIGGER limits_inserted AFTER INSERT ON limits
BEGIN
    INSERT INTO changes (kind, ref, tenant_id, at)
    SELECT 'limit', NEW.name,
           CASE NEW.scope WHEN 'tenant' THEN NEW.subject WHEN 'key' THEN coalesce((SELECT tenant_id FROM api_keys WHERE id = NEW.subject), '')
           ELSE '' END, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER);
END;

CREATE TRIGGER limits_updated AFTER UPDATE ON limits
BEGIN
    INSERT INTO changes (kind, ref, tenant_id, at)
    SELECT 'limit', NEW.name,
           CASE NEW.scope WHEN 'tenant' THEN NEW.subject WHEN 'key' THEN coalesce((SELECT tenant_id FROM api_keys WHERE id = NEW.subject), '')
           ELSE '' END, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER);
END;

CREATE TRIGGER limits_deleted AFTER DELETE ON limits
BEGIN
    INSERT INTO changes (kind, ref, tenant_id, at)
    SELECT 'limit', OLD.name,
           CASE OLD.scope WHEN 'tenant' THEN OLD.subject WHEN 'key' THEN coalesce((SELECT tenant_id FROM api_keys WHERE id = OLD.subject), '')
           ELSE '' END, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER);
END;

-- A replica lacks what others hold: they give back what they do not need.
CREATE TRIGGER limit_counters_wanted AFTER UPDATE OF wanted_at ON limit_counters
BEGIN
    INSERT INTO changes (kind, ref, tenant_id, at)
    VALUES ('lease', NEW.name, NEW.tenant_id, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));
END;

-- What a replica held that ended: nobody knows how much of it was admitted, so it stays counted. A rate's lease has expired before,
-- so that its part of the capacity is free.
CREATE TRIGGER limit_leases_deleted AFTER DELETE ON limit_leases WHEN OLD.amount > 0
BEGIN
    UPDATE limit_counters
    SET leased = max(leased - OLD.amount, 0), unaccounted = unaccounted + iif(kind = 'rate', 0, OLD.amount), version = version + 1
    WHERE tenant_id = OLD.tenant_id AND key_id = OLD.key_id AND name = OLD.name AND kind = OLD.kind
      AND window_start = OLD.window_start;
END;

-- The amounts were counted when they were leased; here they move from the lease to the reservation.
CREATE TRIGGER limit_reservations_inserted AFTER INSERT ON limit_reservations WHEN NEW.state = 'held'
BEGIN
    UPDATE limit_counters SET reserved = reserved + NEW.amount, version = version + 1
    WHERE tenant_id = NEW.tenant_id AND key_id = NEW.key_id AND name = NEW.name AND kind = NEW.kind
      AND window_start = NEW.window_start;
END;

CREATE TRIGGER limit_reservations_updated AFTER UPDATE OF state, charged ON limit_reservations
BEGIN
    UPDATE limit_counters
    SET reserved = reserved - iif(OLD.state = 'held' AND NEW.state <> 'held', OLD.amount, 0),
        counted = counted + NEW.charged - iif(OLD.state = 'held', OLD.amount, OLD.charged),
        version = version + 1
    WHERE tenant_id = NEW.tenant_id AND key_id = NEW.key_id AND name = NEW.name AND kind = NEW.kind
      AND window_start = NEW.window_start AND NEW.state <> 'held';
END;

-- While limits are in use, the change log has an entry per minute: every replica then notices a database that was restored.
CREATE TRIGGER limit_log_updated AFTER UPDATE OF seq ON limit_log WHEN NEW.at / 60000 <> OLD.at / 60000
BEGIN
    INSERT INTO changes (kind, ref, tenant_id, at)
    VALUES ('limit_log', NEW.seq, '', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));
END;

CREATE TRIGGER limits_of_deleted_key AFTER DELETE ON api_keys
BEGIN
    DELETE FROM limits WHERE scope = 'key' AND subject = OLD.id;
    DELETE FROM limit_counters WHERE tenant_id = OLD.tenant_id AND key_id = OLD.id;
END;

CREATE TRIGGER limits_of_deleted_tenant AFTER DELETE ON tenants
BEGIN
    DELETE FROM limits WHERE scope = 'tenant' AND subject = OLD.id;
    DELETE FROM limit_counters WHERE tenant_id = OLD.id;
END;
