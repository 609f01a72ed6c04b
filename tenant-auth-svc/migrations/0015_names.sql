-- What an operator asks: which tenant or key has a name, by its beginning, and who took an action.

-- In the order of such a list: without regard to the case of A to Z, then by id.
CREATE INDEX tenants_by_name ON tenants (name COLLATE NOCASE, id);

-- Keys without a name are not found by it, and cost nothing here.
CREATE INDEX api_keys_by_name ON api_keys (name COLLATE NOCASE, id) WHERE name <> '';

CREATE INDEX audit_log_by_action ON audit_log (action, at);

-- The keys of one tenant in the same order: a list of them reads no other tenant's.
CREATE INDEX api_keys_by_tenant_name ON api_keys (tenant_id, name COLLATE NOCASE, id) WHERE name <> '';
