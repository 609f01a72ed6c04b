-- Keys can be disabled and enabled again, and each tenant and key has a version that every change of it increases, so that an
-- update can be refused if the row has changed since it was read.

ALTER TABLE api_keys ADD COLUMN disabled_at INTEGER;

ALTER TABLE api_keys ADD COLUMN version INTEGER NOT NULL DEFAULT 1;

ALTER TABLE tenants ADD COLUMN version INTEGER NOT NULL DEFAULT 1;

DROP TRIGGER api_keys_updated;

-- Neither on last_used_at, which changes all the time, nor on version, nor on name: no verdict depends on them.
CREATE TRIGGER api_keys_updated
AFTER UPDATE OF key_hash, id, tenant_id, scopes, pepper_id, expires_at, revoked_at, disabled_at ON api_keys
BEGIN
    INSERT INTO changes (kind, ref, tenant_id, at)
    VALUES ('key', OLD.id, OLD.tenant_id, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));
    INSERT INTO changes (kind, ref, tenant_id, at)
    SELECT 'key', NEW.id, NEW.tenant_id, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)
    WHERE NEW.id <> OLD.id OR NEW.tenant_id <> OLD.tenant_id;
END;

DROP TRIGGER tenants_updated;

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

-- By any writer, also one that uses SQL. The update of version itself fires no trigger.
CREATE TRIGGER api_keys_version
AFTER UPDATE OF key_hash, id, tenant_id, name, prefix_hint, scopes, pepper_id, created_at, expires_at, revoked_at,
                revoke_reason, replaced_by, disabled_at ON api_keys
BEGIN
    UPDATE api_keys SET version = OLD.version + 1 WHERE id = NEW.id;
END;

CREATE TRIGGER tenants_version
AFTER UPDATE OF id, name, plan, status, suspend_reason, created_at, updated_at ON tenants
BEGIN
    UPDATE tenants SET version = OLD.version + 1 WHERE id = NEW.id;
END;
