-- What an operator asks about one key: which it is, by its first characters, and what was done to it, by whom and when.

-- Keys of one prefix in the order of their ids, across tenants. Keys without one are not found by it, and cost nothing here.
CREATE INDEX api_keys_by_prefix ON api_keys (prefix_hint, id) WHERE prefix_hint <> '';

-- The audit log is listed by moment, so that a span of time is a part of each index. The last column of each is the place in the
-- log (seq), which SQLite adds.
CREATE INDEX audit_log_by_time ON audit_log (at);

CREATE INDEX audit_log_by_caller ON audit_log (caller, at);

DROP INDEX audit_log_by_tenant;

CREATE INDEX audit_log_by_tenant ON audit_log (tenant_id, at);

-- What looks for one action of a target reads its few other entries too.
DROP INDEX audit_log_by_target;

CREATE INDEX audit_log_by_target ON audit_log (target, at);
