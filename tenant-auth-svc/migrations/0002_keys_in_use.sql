-- What a replica reads ahead when it starts: the keys in use, the most recently used first.

CREATE INDEX api_keys_by_use ON api_keys (last_used_at, id) WHERE last_used_at IS NOT NULL AND revoked_at IS NULL;
