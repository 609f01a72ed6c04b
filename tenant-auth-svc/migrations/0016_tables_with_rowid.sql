-- Tables WITHOUT ROWID become ordinary ones, which every engine of Turso has. Replicas of the version before this one keep
-- reading and writing the tables under their names the whole time.
--
-- First each table gets a copy that triggers keep in step with it. A copy has no triggers of its own, so that nothing is
-- counted twice and nothing enters the change log, and no references, because the tenant that a row names may not be copied yet.

CREATE TABLE tenants_rowid (
    id                  TEXT    PRIMARY KEY NOT NULL,
    name                TEXT    NOT NULL,
    plan                TEXT    NOT NULL DEFAULT '',
    status              TEXT    NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    suspend_reason      TEXT    NOT NULL DEFAULT '',
    created_at          INTEGER NOT NULL,
    updated_at          INTEGER NOT NULL,
    version             INTEGER NOT NULL DEFAULT 1,
    deletion_started_at INTEGER,
    leak_policy         TEXT
);

CREATE TABLE session_bindings_rowid (
    session_id TEXT    PRIMARY KEY NOT NULL,
    tenant_id  TEXT    NOT NULL,
    key_id     TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    ttl        INTEGER NOT NULL,
    sliding    INTEGER NOT NULL CHECK (sliding IN (0, 1)),
    attributes TEXT    NOT NULL DEFAULT '{}' CHECK (json_valid(attributes)),
    bind_id    TEXT    NOT NULL
);

CREATE TABLE session_counts_rowid (
    tenant_id TEXT    PRIMARY KEY NOT NULL,
    sessions  INTEGER NOT NULL
);

CREATE TABLE usage_events_rowid (
    tenant_id TEXT    NOT NULL,
    hour      INTEGER NOT NULL,
    metric    TEXT    NOT NULL,
    request   INTEGER NOT NULL,
    quantity  INTEGER NOT NULL CHECK (typeof(quantity) = 'integer' AND quantity >= 0),
    PRIMARY KEY (tenant_id, hour, metric, request)
);

CREATE TABLE usage_totals_rowid (
    tenant_id TEXT    NOT NULL,
    hour      INTEGER NOT NULL,
    metric    TEXT    NOT NULL,
    quantity  INTEGER NOT NULL CHECK (typeof(quantity) = 'integer' AND quantity >= 0),
    PRIMARY KEY (tenant_id, hour, metric)
);

CREATE TABLE pepper_checks_rowid (
    pepper_id TEXT PRIMARY KEY NOT NULL,
    value     BLOB NOT NULL CHECK (length(value) = 32)
);

-- Under new names: an index cannot be renamed, and building these when the tables change places would hold up every writer. That
-- of tenants is built then: statements name it. With the session's id, which the indexes of a table without a rowid contain.
CREATE INDEX sessions_by_tenant ON session_bindings_rowid (tenant_id, created_at, session_id);

CREATE INDEX sessions_by_expiry ON session_bindings_rowid (expires_at, session_id);

CREATE INDEX sessions_by_key ON session_bindings_rowid (tenant_id, key_id, expires_at, session_id);

-- How far each table is copied: the key of the last row, which the next page starts with. The first values are less than any key.
CREATE TABLE rowid_copies (
    table_name TEXT    PRIMARY KEY NOT NULL,
    key_1      TEXT    NOT NULL,
    key_2      INTEGER NOT NULL,
    key_3      TEXT    NOT NULL,
    key_4      INTEGER NOT NULL,
    is_done    INTEGER NOT NULL DEFAULT 0
);

INSERT INTO rowid_copies (table_name, key_1, key_2, key_3, key_4)
SELECT value, '', -9223372036854775808, '', -9223372036854775808
FROM json_each('["tenants", "session_bindings", "session_counts", "usage_events", "usage_totals", "pepper_checks"]');

-- A row is read again instead of taken from NEW: another trigger of the same statement may have changed it by now.

CREATE TRIGGER tenants_rowid_inserted AFTER INSERT ON tenants
BEGIN
    DELETE FROM tenants_rowid WHERE id = NEW.id;
    INSERT INTO tenants_rowid (id, name, plan, status, suspend_reason, created_at, updated_at, version, deletion_started_at,
                               leak_policy)
    SELECT id, name, plan, status, suspend_reason, created_at, updated_at, version, deletion_started_at, leak_policy
    FROM tenants WHERE id = NEW.id;
END;

CREATE TRIGGER tenants_rowid_updated AFTER UPDATE ON tenants
BEGIN
    DELETE FROM tenants_rowid WHERE id = OLD.id;
    DELETE FROM tenants_rowid WHERE id = NEW.id;
    INSERT INTO tenants_rowid (id, name, plan, status, suspend_reason, created_at, updated_at, version, deletion_started_at,
                               leak_policy)
    SELECT id, name, plan, status, suspend_reason, created_at, updated_at, version, deletion_started_at, leak_policy
    FROM tenants WHERE id = NEW.id;
END;

CREATE TRIGGER tenants_rowid_deleted AFTER DELETE ON tenants
BEGIN
    DELETE FROM tenants_rowid WHERE id = OLD.id;
END;

CREATE TRIGGER session_bindings_rowid_inserted AFTER INSERT ON session_bindings
BEGIN
    DELETE FROM session_bindings_rowid WHERE session_id = NEW.session_id;
    INSERT INTO session_bindings_rowid (session_id, tenant_id, key_id, created_at, expires_at, ttl, sliding, attributes, bind_id)
    SELECT session_id, tenant_id, key_id, created_at, expires_at, ttl, sliding, attributes, bind_id
    FROM session_bindings WHERE session_id = NEW.session_id;
END;

CREATE TRIGGER session_bindings_rowid_updated AFTER UPDATE ON session_bindings
BEGIN
    DELETE FROM session_bindings_rowid WHERE session_id = OLD.session_id;
    DELETE FROM session_bindings_rowid WHERE session_id = NEW.session_id;
    INSERT INTO session_bindings_rowid (session_id, tenant_id, key_id, created_at, expires_at, ttl, sliding, attributes, bind_id)
    SELECT session_id, tenant_id, key_id, created_at, expires_at, ttl, sliding, attributes, bind_id
    FROM session_bindings WHERE session_id = NEW.session_id;
END;

CREATE TRIGGER session_bindings_rowid_deleted AFTER DELETE ON session_bindings
BEGIN
    DELETE FROM session_bindings_rowid WHERE session_id = OLD.session_id;
END;

CREATE TRIGGER session_counts_rowid_inserted AFTER INSERT ON session_counts
BEGIN
    DELETE FROM session_counts_rowid WHERE tenant_id = NEW.tenant_id;
    INSERT INTO session_counts_rowid (tenant_id, sessions)
    SELECT tenant_id, sessions
    FROM session_counts WHERE tenant_id = NEW.tenant_id;
END;

CREATE TRIGGER session_counts_rowid_updated AFTER UPDATE ON session_counts
BEGIN
    DELETE FROM session_counts_rowid WHERE tenant_id = OLD.tenant_id;
    DELETE FROM session_counts_rowid WHERE tenant_id = NEW.tenant_id;
    INSERT INTO session_counts_rowid (tenant_id, sessions)
    SELECT tenant_id, sessions
    FROM session_counts WHERE tenant_id = NEW.tenant_id;
END;

CREATE TRIGGER session_counts_rowid_deleted AFTER DELETE ON session_counts
BEGIN
    DELETE FROM session_counts_rowid WHERE tenant_id = OLD.tenant_id;
END;

CREATE TRIGGER usage_events_rowid_inserted AFTER INSERT ON usage_events
BEGIN
    DELETE FROM usage_events_rowid
    WHERE tenant_id = NEW.tenant_id AND hour = NEW.hour AND metric = NEW.metric AND request = NEW.request;
    INSERT INTO usage_events_rowid (tenant_id, hour, metric, request, quantity)
    SELECT tenant_id, hour, metric, request, quantity
    FROM usage_events WHERE tenant_id = NEW.tenant_id AND hour = NEW.hour AND metric = NEW.metric AND request = NEW.request;
END;

CREATE TRIGGER usage_events_rowid_updated AFTER UPDATE ON usage_events
BEGIN
    DELETE FROM usage_events_rowid
    WHERE tenant_id = OLD.tenant_id AND hour = OLD.hour AND metric = OLD.metric AND request = OLD.request;
    DELETE FROM usage_events_rowid
    WHERE tenant_id = NEW.tenant_id AND hour = NEW.hour AND metric = NEW.metric AND request = NEW.request;
    INSERT INTO usage_events_rowid (tenant_id, hour, metric, request, quantity)
    SELECT tenant_id, hour, metric, request, quantity
    FROM usage_events WHERE tenant_id = NEW.tenant_id AND hour = NEW.hour AND metric = NEW.metric AND request = NEW.request;
END;

CREATE TRIGGER usage_events_rowid_deleted AFTER DELETE ON usage_events
BEGIN
    DELETE FROM usage_events_rowid
    WHERE tenant_id = OLD.tenant_id AND hour = OLD.hour AND metric = OLD.metric AND request = OLD.request;
END;

CREATE TRIGGER usage_totals_rowid_inserted AFTER INSERT ON usage_totals
BEGIN
    DELETE FROM usage_totals_rowid WHERE tenant_id = NEW.tenant_id AND hour = NEW.hour AND metric = NEW.metric;
    INSERT INTO usage_totals_rowid (tenant_id, hour, metric, quantity)
    SELECT tenant_id, hour, metric, quantity
    FROM usage_totals WHERE tenant_id = NEW.tenant_id AND hour = NEW.hour AND metric = NEW.metric;
END;

CREATE TRIGGER usage_totals_rowid_updated AFTER UPDATE ON usage_totals
BEGIN
    DELETE FROM usage_totals_rowid WHERE tenant_id = OLD.tenant_id AND hour = OLD.hour AND metric = OLD.metric;
    DELETE FROM usage_totals_rowid WHERE tenant_id = NEW.tenant_id AND hour = NEW.hour AND metric = NEW.metric;
    INSERT INTO usage_totals_rowid (tenant_id, hour, metric, quantity)
    SELECT tenant_id, hour, metric, quantity
    FROM usage_totals WHERE tenant_id = NEW.tenant_id AND hour = NEW.hour AND metric = NEW.metric;
END;

CREATE TRIGGER usage_totals_rowid_deleted AFTER DELETE ON usage_totals
BEGIN
    DELETE FROM usage_totals_rowid WHERE tenant_id = OLD.tenant_id AND hour = OLD.hour AND metric = OLD.metric;
END;

CREATE TRIGGER pepper_checks_rowid_inserted AFTER INSERT ON pepper_checks
BEGIN
    DELETE FROM pepper_checks_rowid WHERE pepper_id = NEW.pepper_id;
    INSERT INTO pepper_checks_rowid (pepper_id, value)
    SELECT pepper_id, value
    FROM pepper_checks WHERE pepper_id = NEW.pepper_id;
END;

CREATE TRIGGER pepper_checks_rowid_updated AFTER UPDATE ON pepper_checks
BEGIN
    DELETE FROM pepper_checks_rowid WHERE pepper_id = OLD.pepper_id;
    DELETE FROM pepper_checks_rowid WHERE pepper_id = NEW.pepper_id;
    INSERT INTO pepper_checks_rowid (pepper_id, value)
    SELECT pepper_id, value
    FROM pepper_checks WHERE pepper_id = NEW.pepper_id;
END;

CREATE TRIGGER pepper_checks_rowid_deleted AFTER DELETE ON pepper_checks
BEGIN
    DELETE FROM pepper_checks_rowid WHERE pepper_id = OLD.pepper_id;
END;
