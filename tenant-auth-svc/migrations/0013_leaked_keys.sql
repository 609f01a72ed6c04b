-- What happens to the keys of a tenant that are found in public places: NULL (the default of the service), 'disable', 'notify',
-- or 'expire:' and milliseconds.
ALTER TABLE tenants ADD COLUMN leak_policy TEXT;

DROP TRIGGER tenants_version;

CREATE TRIGGER tenants_version
AFTER UPDATE OF id, name, plan, status, suspend_reason, created_at, updated_at, leak_policy, deletion_started_at ON tenants
BEGIN
    UPDATE tenants SET version = OLD.version + 1 WHERE id = NEW.id;
END;

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

CREATE TRIGGER key_leaks_of_deleted_key AFTER DELETE ON api_keys
BEGIN
    DELETE FROM key_leaks WHERE key_id = OLD.id;
END;
