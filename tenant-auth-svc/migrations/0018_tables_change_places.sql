-- The copies take the places of the tables, in one transaction: a table's triggers go with it, and come back with the new one.

-- First the tables that refer to tenants, and those that only triggers of these name.
DROP TABLE usage_events;

DROP TABLE usage_totals;

DROP TABLE session_bindings;

DROP TABLE session_counts;

DROP TABLE pepper_checks;

-- Not dropped before it has another name: while keys refer to it, that would count as deleting every tenant.
DROP TRIGGER tenants_inserted;

DROP TRIGGER tenants_updated;

DROP TRIGGER tenants_version;

DROP TRIGGER tenants_deleted;

DROP TRIGGER limits_of_deleted_tenant;

DROP TRIGGER tenants_rowid_inserted;

DROP TRIGGER tenants_rowid_updated;

DROP TRIGGER tenants_rowid_deleted;

-- This changes the reference of the keys too.
ALTER TABLE tenants RENAME TO tenants_without_rowid;

ALTER TABLE tenants_rowid RENAME TO tenants;

ALTER TABLE api_keys ALTER COLUMN tenant_id TO tenant_id TEXT NOT NULL REFERENCES tenants (id);

DROP TABLE tenants_without_rowid;

CREATE INDEX tenants_by_name ON tenants (name COLLATE NOCASE, id);

ALTER TABLE session_counts_rowid RENAME TO session_counts;

ALTER TABLE session_bindings_rowid RENAME TO session_bindings;

ALTER TABLE usage_totals_rowid RENAME TO usage_totals;

ALTER TABLE usage_events_rowid RENAME TO usage_events;

ALTER TABLE pepper_checks_rowid RENAME TO pepper_checks;

ALTER TABLE session_bindings ALTER COLUMN tenant_id TO tenant_id TEXT NOT NULL REFERENCES tenants (id);

ALTER TABLE usage_totals ALTER COLUMN tenant_id TO tenant_id TEXT NOT NULL REFERENCES tenants (id);

ALTER TABLE usage_events ALTER COLUMN tenant_id TO tenant_id TEXT NOT NULL REFERENCES tenants (id);

DROP TABLE rowid_copies;

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

CREATE TRIGGER limits_of_deleted_tenant AFTER DELETE ON tenants
BEGIN
    DELETE FROM limits WHERE scope = 'tenant' AND subject = OLD.id;
    DELETE FROM limit_counters WHERE tenant_id = OLD.id;
END;

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

-- Not on a deletion: totals outlive the events that they were made of.
CREATE TRIGGER usage_events_inserted AFTER INSERT ON usage_events
BEGIN
    INSERT INTO usage_totals (tenant_id, hour, metric, quantity)
    VALUES (NEW.tenant_id, NEW.hour, NEW.metric, NEW.quantity)
    ON CONFLICT (tenant_id, hour, metric) DO UPDATE SET quantity = quantity + excluded.quantity;
END;
