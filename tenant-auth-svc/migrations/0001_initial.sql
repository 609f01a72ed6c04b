-- Tenants, keys, the change log that tells every replica what to forget, and the audit log.
--
-- Times are unix milliseconds. One statement ends where a line ends with a semicolon; a trigger where a line is "END;".

CREATE TABLE tenants (
    id             TEXT    PRIMARY KEY NOT NULL,
    name           TEXT    NOT NULL,
    plan           TEXT    NOT NULL DEFAULT '',
    status         TEXT    NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    suspend_reason TEXT    NOT NULL DEFAULT '',
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL
) WITHOUT ROWID;

-- key_hash is SHA-256 of the key, or HMAC-SHA-256 over that with the pepper named by pepper_id. scopes is a JSON array.
CREATE TABLE api_keys (
    key_hash      BLOB    NOT NULL UNIQUE CHECK (length(key_hash) = 32),
    id            TEXT    NOT NULL UNIQUE,
    tenant_id     TEXT    NOT NULL REFERENCES tenants (id),
    name          TEXT    NOT NULL DEFAULT '',
    prefix_hint   TEXT    NOT NULL DEFAULT '',
    scopes        TEXT    NOT NULL DEFAULT '[]' CHECK (json_valid(scopes)),
    pepper_id     TEXT,
    created_at    INTEGER NOT NULL,
    expires_at    INTEGER,
    revoked_at    INTEGER,
    revoke_reason TEXT    NOT NULL DEFAULT '',
    replaced_by   TEXT,
    last_used_at  INTEGER
);

CREATE INDEX api_keys_by_tenant ON api_keys (tenant_id, id);

CREATE INDEX api_keys_by_pepper ON api_keys (pepper_id) WHERE pepper_id IS NOT NULL AND revoked_at IS NULL;

-- AUTOINCREMENT: a number is never used twice, not even after the log was pruned.
CREATE TABLE changes (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    kind      TEXT    NOT NULL,
    ref       TEXT    NOT NULL,
    tenant_id TEXT    NOT NULL,
    at        INTEGER NOT NULL
);

-- Triggers, so that a change by any hand is seen, that of a person in the database's shell too.
CREATE TRIGGER tenants_inserted AFTER INSERT ON tenants
BEGIN
    INSERT INTO changes (kind, ref, tenant_id, at)
    VALUES ('tenant', NEW.id, NEW.id, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));
END;

CREATE TRIGGER tenants_updated AFTER UPDATE ON tenants
BEGIN
    INSERT INTO changes (kind, ref, tenant_id, at)
    VALUES ('tenant', OLD.id, OLD.id, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));
    INSERT INTO changes (kind, ref, tenant_id, at)
    SELECT 'tenant', NEW.id, NEW.id, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)
    WHERE NEW.id <> OLD.id;
END;

CREATE TRIGGER tenants_deleted AFTER DELETE ON tenants
BEGIN
    INSERT INTO changes (kind, ref, tenant_id, at)
    VALUES ('tenant', OLD.id, OLD.id, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));
END;

CREATE TRIGGER api_keys_inserted AFTER INSERT ON api_keys
BEGIN
    INSERT INTO changes (kind, ref, tenant_id, at)
    VALUES ('key', NEW.id, NEW.tenant_id, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));
END;

-- Not on last_used_at: no verdict depends on it, and it changes all the time.
CREATE TRIGGER api_keys_updated
AFTER UPDATE OF key_hash, id, tenant_id, scopes, pepper_id, expires_at, revoked_at ON api_keys
BEGIN
    INSERT INTO changes (kind, ref, tenant_id, at)
    VALUES ('key', OLD.id, OLD.tenant_id, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));
    INSERT INTO changes (kind, ref, tenant_id, at)
    SELECT 'key', NEW.id, NEW.tenant_id, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)
    WHERE NEW.id <> OLD.id OR NEW.tenant_id <> OLD.tenant_id;
END;

CREATE TRIGGER api_keys_deleted AFTER DELETE ON api_keys
BEGIN
    INSERT INTO changes (kind, ref, tenant_id, at)
    VALUES ('key', OLD.id, OLD.tenant_id, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));
END;

CREATE TABLE audit_log (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    caller     TEXT    NOT NULL,
    action     TEXT    NOT NULL,
    target     TEXT    NOT NULL,
    tenant_id  TEXT    NOT NULL,
    request_id TEXT    NOT NULL,
    detail     TEXT    NOT NULL DEFAULT ''
);

CREATE INDEX audit_log_by_tenant ON audit_log (tenant_id, seq);

CREATE INDEX audit_log_by_target ON audit_log (target, action);
