-- Which database this is, so that no replica takes another one, an emptied one or a rolled-back one for it; and a row that one of
-- the replicas changes each second, so that a copy which stands still is noticed.
--
-- Times are unix milliseconds.

-- One row. The id is drawn once. The epoch rises when an operator accepts the database as it is; replaces is then the id of the one
-- that it was accepted instead of.
-- accepted_at is when an operator accepted it: replicas then report what they know of limits before anything is granted.
CREATE TABLE database_identity (
    only        INTEGER PRIMARY KEY CHECK (only = 1),
    id          TEXT    NOT NULL,
    epoch       INTEGER NOT NULL,
    replaces    TEXT    NOT NULL DEFAULT '',
    created_at  INTEGER NOT NULL,
    accepted_at INTEGER NOT NULL DEFAULT 0
);

INSERT INTO database_identity (only, id, epoch, created_at)
VALUES (1, lower(hex(randomblob(16))), 1, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));

-- One row. It is not in the change log, which it would fill.
CREATE TABLE heartbeat (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    beat INTEGER NOT NULL,
    at   INTEGER NOT NULL
);

INSERT INTO heartbeat (only, beat, at) VALUES (1, 0, 0);

CREATE TRIGGER database_identity_updated AFTER UPDATE OF id, epoch ON database_identity
BEGIN
    INSERT INTO changes (kind, ref, tenant_id, at)
    VALUES ('database', NEW.id, '', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER));
END;
