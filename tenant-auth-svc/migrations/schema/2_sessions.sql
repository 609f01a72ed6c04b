-- Sessions: bound to a tenant through the key that opened them.
--
-- Times are unix milliseconds.

CREATE TABLE session_bindings (
    session_id TEXT    PRIMARY KEY NOT NULL,
    tenant_id  TEXT    NOT NULL REFERENCES tenants (id),
    key_id     TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    ttl        INTEGER NOT NULL,
    sliding    INTEGER NOT NULL CHECK (sliding IN (0, 1)),
    attributes TEXT    NOT NULL DEFAULT '{}' CHECK (json_valid(attributes)),
    bind_id    TEXT    NOT NULL
);

-- Each has all columns that what uses it reads: an index of a table with a rowid does not contain the primary key.
CREATE INDEX sessions_by_tenant ON session_bindings (tenant_id, created_at, session_id);

CREATE INDEX sessions_by_expiry ON session_bindings (expires_at, session_id);

-- Those of a key that has expired are found without reading the others.
CREATE INDEX sessions_by_key ON session_bindings (tenant_id, key_id, expires_at, session_id);

-- How many sessions a tenant has, so that a cap costs one row and not a count. Those that are over and not swept yet
-- count too.
CREATE TABLE session_counts (
    tenant_id TEXT    PRIMARY KEY NOT NULL,
    sessions  INTEGER NOT NULL
);

CREATE TRIGGER session_bindings_inserted AFTER INSERT ON session_bindings
BEGIN
    INSERT INTO session_counts (tenant_id, sessions) VALUES (NEW.tenant_id, 1)
    ON CONFLICT (tenant_id) DO UPDATE SET sessions = sessions + 1;
    INSERT INTO changes (kind, ref, tenant_id, at)
    VALUES ('session', NEW.session_id, NEW.tenant_id, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));
END;

-- A later end is no news: whoever has the earlier one in memory asks again when it comes.
CREATE TRIGGER session_bindings_updated
AFTER UPDATE OF session_id, tenant_id, key_id, expires_at, attributes ON session_bindings
WHEN NEW.session_id <> OLD.session_id OR NEW.tenant_id <> OLD.tenant_id OR NEW.key_id <> OLD.key_id
  OR NEW.expires_at < OLD.expires_at OR NEW.attributes <> OLD.attributes
BEGIN
    INSERT INTO changes (kind, ref, tenant_id, at)
    VALUES ('session', OLD.session_id, OLD.tenant_id, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));
    INSERT INTO changes (kind, ref, tenant_id, at)
    SELECT 'session', NEW.session_id, NEW.tenant_id, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)
    WHERE NEW.session_id <> OLD.session_id;
END;

CREATE TRIGGER session_bindings_moved
AFTER UPDATE OF tenant_id ON session_bindings WHEN NEW.tenant_id <> OLD.tenant_id
BEGIN
    UPDATE session_counts SET sessions = sessions - 1 WHERE tenant_id = OLD.tenant_id;
    INSERT INTO session_counts (tenant_id, sessions) VALUES (NEW.tenant_id, 1)
    ON CONFLICT (tenant_id) DO UPDATE SET sessions = sessions + 1;
END;

CREATE TRIGGER session_bindings_deleted AFTER DELETE ON session_bindings
BEGIN
    UPDATE session_counts SET sessions = sessions - 1 WHERE tenant_id = OLD.tenant_id;
    INSERT INTO changes (kind, ref, tenant_id, at)
    VALUES ('session', OLD.session_id, OLD.tenant_id, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));
END;
