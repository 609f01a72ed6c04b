-- With the end of each key, so that whether a pepper still has live keys costs two look-ups, however many keys have expired
-- under it.

DROP INDEX api_keys_by_pepper;

CREATE INDEX api_keys_by_pepper ON api_keys (pepper_id, expires_at) WHERE pepper_id IS NOT NULL AND revoked_at IS NULL;

-- What a pepper gives for a fixed text: two replicas that have different secrets under one id would not find each other's keys.
CREATE TABLE pepper_checks (
    pepper_id TEXT PRIMARY KEY NOT NULL,
    value     BLOB NOT NULL CHECK (length(value) = 32)
) WITHOUT ROWID;
