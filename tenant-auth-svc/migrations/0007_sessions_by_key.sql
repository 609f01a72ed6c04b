-- A tenant's sessions by the key that opened them: those of a key that is over are found without reading the others. With the
-- end of each, so that room is made without reading those that live.

CREATE INDEX session_bindings_by_key ON session_bindings (tenant_id, key_id, expires_at);
