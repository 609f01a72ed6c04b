//! Former versions of the statements, for comparison with today's.

/// SQLite uses the events for the outer loop and looks up the tenant of each event.
pub(super) const SWEEP_EVENTS: &str = "\
DELETE FROM usage_events WHERE (tenant_id, hour, metric, request) IN ( \
    SELECT old.tenant_id, old.hour, old.metric, old.request \
    FROM tenants JOIN usage_events AS old ON old.tenant_id = tenants.id AND old.hour < ?1 LIMIT ?2)";

/// Two sort directions and an OR: SQLite reads and sorts all recently used keys for every page.
pub(super) const READ_AHEAD: &str = "\
SELECT hex(keys.key_hash), keys.id, keys.tenant_id, tenants.name, tenants.plan, tenants.status, keys.scopes, \
       keys.expires_at, keys.revoked_at, keys.last_used_at, (SELECT coalesce(max(seq), 0) FROM changes) \
FROM (SELECT 1) LEFT JOIN ( \
    SELECT * FROM api_keys \
    WHERE revoked_at IS NULL AND last_used_at IS NOT NULL AND tenant_id IN (SELECT id FROM tenants) \
      AND (last_used_at < ?1 OR (last_used_at = ?1 AND id > ?2)) \
    ORDER BY last_used_at DESC, id LIMIT ?3) AS keys ON TRUE \
LEFT JOIN tenants ON tenants.id = keys.tenant_id \
ORDER BY keys.last_used_at DESC, keys.id";

/// Deletes all rows at once, however many there are.
pub(super) const PRUNE: &str = "DELETE FROM changes WHERE seq <= (SELECT max(seq) FROM changes) - ?1";
