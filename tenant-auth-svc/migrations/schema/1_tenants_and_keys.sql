-- Tenants and keys, the change log that tells every replica what to forget, and the audit log.
--
-- Times are unix milliseconds.

-- deletion_started_at: the tenant's deletion began; it stays suspended, and cannot be resumed. leak_policy: what happens to its keys
-- that are found in public places: NULL (the default of the service), 'disable', 'notify', or 'expire:' and milliseconds. version
-- rises with each change, so that an update can be refused if the row has changed since it was read.
CREATE TABLE tenants (
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

-- In the order of a list by name: without regard to the case of A to Z, then by id.
CREATE INDEX tenants_by_name ON tenants (name COLLATE NOCASE, id);

-- key_hash is SHA-256 of the key, or HMAC-SHA-256 over that with the pepper named by pepper_id. scopes is a JSON array.
-- allowed_networks is a JSON array of networks in CIDR notation, canonical, sorted and unique; empty: everywhere.
CREATE TABLE api_keys (
    key_hash         BLOB    NOT NULL UNIQUE CHECK (length(key_hash) = 32),
    id               TEXT    NOT NULL UNIQUE,
    tenant_id        TEXT    NOT NULL REFERENCES tenants (id),
    name             TEXT    NOT NULL DEFAULT '',
    prefix_hint      TEXT    NOT NULL DEFAULT '',
    scopes           TEXT    NOT NULL DEFAULT '[]' CHECK (json_valid(scopes)),
    pepper_id        TEXT,
    created_at       INTEGER NOT NULL,
    expires_at       INTEGER,
    revoked_at       INTEGER,
    revoke_reason    TEXT    NOT NULL DEFAULT '',
    replaced_by      TEXT,
    last_used_at     INTEGER,
    disabled_at      INTEGER,
    version          INTEGER NOT NULL DEFAULT 1,
    allowed_networks TEXT    NOT NULL DEFAULT '[]'
);

CREATE INDEX api_keys_by_tenant ON api_keys (tenant_id, id);

-- What a replica reads ahead when it starts: the keys in use, the most recently used first.
CREATE INDEX api_keys_by_use ON api_keys (last_used_at, id) WHERE last_used_at IS NOT NULL AND revoked_at IS NULL;

-- With the end of each key, so that whether a pepper still has live keys costs two look-ups, however many keys have expired under
-- it.
CREATE INDEX api_keys_by_pepper ON api_keys (pepper_id, expires_at) WHERE pepper_id IS NOT NULL AND revoked_at IS NULL;

-- Keys of one prefix in the order of their ids, across tenants. Keys without one are not found by it, and cost nothing here.
CREATE INDEX api_keys_by_prefix ON api_keys (prefix_hint, id) WHERE prefix_hint <> '';

-- In the same order. Keys without a name are not found by it, and cost nothing here.
CREATE INDEX api_keys_by_name ON api_keys (name COLLATE NOCASE, id) WHERE name <> '';

-- The keys of one tenant in the same order: a list of them reads no other tenant's.
CREATE INDEX api_keys_by_tenant_name ON api_keys (tenant_id, name COLLATE NOCASE, id) WHERE name <> '';

-- One row for each key and source: only the first report of a source has an effect. report_id is that of the report, so that a
-- repeated transaction recognises its own. policy is the one that was applied.
CREATE TABLE key_leaks (
    key_id      TEXT    NOT NULL,
    source      TEXT    NOT NULL,
    location    TEXT    NOT NULL,
    type        TEXT    NOT NULL,
    policy      TEXT    NOT NULL,
    reported_at INTEGER NOT NULL,
    report_id   TEXT    NOT NULL,
    PRIMARY KEY (key_id, source)
);

-- What a pepper gives for a fixed text: two replicas that have different secrets under one id would not find each other's keys.
CREATE TABLE pepper_checks (
    pepper_id TEXT PRIMARY KEY NOT NULL,
    value     BLOB NOT NULL CHECK (length(value) = 32)
);

-- AUTOINCREMENT: a number is never used twice, not even after the log was pruned.
CREATE TABLE changes (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    kind      TEXT    NOT NULL,
    ref       TEXT    NOT NULL,
    tenant_id TEXT    NOT NULL,
    at        INTEGER NOT NULL
);

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

-- The audit log is listed by moment, so that a span of time is a part of each index. The last column of each is the place in the
-- log (seq), which SQLite adds.
CREATE INDEX audit_log_by_time ON audit_log (at);

CREATE INDEX audit_log_by_caller ON audit_log (caller, at);

CREATE INDEX audit_log_by_tenant ON audit_log (tenant_id, at);

CREATE INDEX audit_log_by_target ON audit_log (target, at);

CREATE INDEX audit_log_by_action ON audit_log (action, at);

-- Triggers, so that a change by any hand is seen, that of a person in the database's shell too.
CREATE TRIGGER tenants_inserted AFTER INSERT ON tenants
BEGIN
    INSERT INTO changes (kind, ref, tenant_id, at)
    VALUES ('tenant', NEW.id, NEW.id, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));
END;

-- Not on version, which a trigger changes after each update.
CREATE TRIGGER tenants_updated
AFTER UPDATE OF id, name, plan, status, suspend_reason, created_at, updated_at ON tenants
BEGIN
    INSERT INTO changes (kind, ref, tenant_id, at)
    VALUES ('tenant', OLD.id, OLD.id, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));
    INSERT INTO changes (kind, ref, tenant_id, at)
    SELECT 'tenant', NEW.id, NEW.id, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)
    WHERE NEW.id <> OLD.id;
END;

CREATE TRIGGER tenants_version
AFTER UPDATE OF id, name, plan, status, suspend_reason, created_at, updated_at, leak_policy, deletion_started_at ON tenants
BEGIN
    UPDATE tenants SET version = OLD.version + 1 WHERE id = NEW.id;
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

CREATE TRIGGER api_keys_deleted AFTER DELETE ON api_keys
BEGIN
    INSERT INTO changes (kind, ref, tenant_id, at)
    VALUES ('key', OLD.id, OLD.tenant_id, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));
END;

-- Neither on last_used_at, which changes all the time, nor on version, nor on name: no verdict depends on them.
CREATE TRIGGER api_keys_updated
AFTER UPDATE OF key_hash, id, tenant_id, scopes, pepper_id, expires_at, revoked_at, disabled_at, allowed_networks ON api_keys
BEGIN
    INSERT INTO changes (kind, ref, tenant_id, at)
    VALUES ('key', OLD.id, OLD.tenant_id, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));
    INSERT INTO changes (kind, ref, tenant_id, at)
    SELECT 'key', NEW.id, NEW.tenant_id, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)
    WHERE NEW.id <> OLD.id OR NEW.tenant_id <> OLD.tenant_id;
END;

-- By any writer, also one that uses SQL. The update of version itself fires no trigger.
CREATE TRIGGER api_keys_version
AFTER UPDATE OF key_hash, id, tenant_id, name, prefix_hint, scopes, pepper_id, created_at, expires_at, revoked_at,
                revoke_reason, replaced_by, disabled_at, allowed_networks ON api_keys
BEGIN
    UPDATE api_keys SET version = OLD.version + 1 WHERE id = NEW.id;
END;

CREATE TRIGGER key_leaks_of_deleted_key AFTER DELETE ON api_keys
BEGIN
    DELETE FROM key_leaks WHERE key_id = OLD.id;
END;
