-- Keys can be limited to networks: a JSON array of networks in CIDR notation, canonical, sorted and unique. Empty: everywhere.
ALTER TABLE api_keys ADD COLUMN allowed_networks TEXT NOT NULL DEFAULT '[]';

DROP TRIGGER api_keys_updated;

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

DROP TRIGGER api_keys_version;

-- By any writer, also one that uses SQL. The update of version itself fires no trigger.
CREATE TRIGGER api_keys_version
AFTER UPDATE OF key_hash, id, tenant_id, name, prefix_hint, scopes, pepper_id, created_at, expires_at, revoked_at,
                revoke_reason, replaced_by, disabled_at, allowed_networks ON api_keys
BEGIN
    UPDATE api_keys SET version = OLD.version + 1 WHERE id = NEW.id;
END;
