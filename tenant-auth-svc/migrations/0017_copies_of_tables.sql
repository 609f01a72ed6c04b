-- Copies the tables, one page of each per transaction, in the order of their keys. A page starts with the last row of the page
-- before it. What a trigger has copied already is left as it is.

INSERT INTO tenants_rowid (id, name, plan, status, suspend_reason, created_at, updated_at, version, deletion_started_at,
                           leak_policy)
SELECT id, name, plan, status, suspend_reason, created_at, updated_at, version, deletion_started_at, leak_policy
FROM tenants
WHERE id >= (
    SELECT key_1 FROM rowid_copies WHERE table_name = 'tenants' AND NOT is_done
)
ORDER BY id LIMIT 1000
ON CONFLICT DO NOTHING;

UPDATE rowid_copies SET is_done = next.id IS NULL, key_1 = coalesce(next.id, key_1)
FROM (SELECT 1) LEFT JOIN (
    SELECT id FROM tenants
    WHERE id >= (
        SELECT key_1 FROM rowid_copies WHERE table_name = 'tenants' AND NOT is_done
    )
    ORDER BY id LIMIT 1 OFFSET 999
) AS next
WHERE table_name = 'tenants' AND NOT is_done;

INSERT INTO session_bindings_rowid (session_id, tenant_id, key_id, created_at, expires_at, ttl, sliding, attributes, bind_id)
SELECT session_id, tenant_id, key_id, created_at, expires_at, ttl, sliding, attributes, bind_id
FROM session_bindings
WHERE session_id >= (
    SELECT key_1 FROM rowid_copies WHERE table_name = 'session_bindings' AND NOT is_done
)
ORDER BY session_id LIMIT 1000
ON CONFLICT DO NOTHING;

UPDATE rowid_copies SET is_done = next.session_id IS NULL, key_1 = coalesce(next.session_id, key_1)
FROM (SELECT 1) LEFT JOIN (
    SELECT session_id FROM session_bindings
    WHERE session_id >= (
        SELECT key_1 FROM rowid_copies WHERE table_name = 'session_bindings' AND NOT is_done
    )
    ORDER BY session_id LIMIT 1 OFFSET 999
) AS next
WHERE table_name = 'session_bindings' AND NOT is_done;

INSERT INTO session_counts_rowid (tenant_id, sessions)
SELECT tenant_id, sessions
FROM session_counts
WHERE tenant_id >= (
    SELECT key_1 FROM rowid_copies WHERE table_name = 'session_counts' AND NOT is_done
)
ORDER BY tenant_id LIMIT 1000
ON CONFLICT DO NOTHING;

UPDATE rowid_copies SET is_done = next.tenant_id IS NULL, key_1 = coalesce(next.tenant_id, key_1)
FROM (SELECT 1) LEFT JOIN (
    SELECT tenant_id FROM session_counts
    WHERE tenant_id >= (
        SELECT key_1 FROM rowid_copies WHERE table_name = 'session_counts' AND NOT is_done
    )
    ORDER BY tenant_id LIMIT 1 OFFSET 999
) AS next
WHERE table_name = 'session_counts' AND NOT is_done;

INSERT INTO usage_events_rowid (tenant_id, hour, metric, request, quantity)
SELECT tenant_id, hour, metric, request, quantity
FROM usage_events
WHERE (tenant_id, hour, metric, request) >= (
    SELECT key_1, key_2, key_3, key_4 FROM rowid_copies WHERE table_name = 'usage_events' AND NOT is_done
)
ORDER BY tenant_id, hour, metric, request LIMIT 1000
ON CONFLICT DO NOTHING;

UPDATE rowid_copies SET is_done = next.tenant_id IS NULL,
    key_1 = coalesce(next.tenant_id, key_1), key_2 = coalesce(next.hour, key_2), key_3 = coalesce(next.metric, key_3),
    key_4 = coalesce(next.request, key_4)
FROM (SELECT 1) LEFT JOIN (
    SELECT tenant_id, hour, metric, request FROM usage_events
    WHERE (tenant_id, hour, metric, request) >= (
        SELECT key_1, key_2, key_3, key_4 FROM rowid_copies WHERE table_name = 'usage_events' AND NOT is_done
    )
    ORDER BY tenant_id, hour, metric, request LIMIT 1 OFFSET 999
) AS next
WHERE table_name = 'usage_events' AND NOT is_done;

INSERT INTO usage_totals_rowid (tenant_id, hour, metric, quantity)
SELECT tenant_id, hour, metric, quantity
FROM usage_totals
WHERE (tenant_id, hour, metric) >= (
    SELECT key_1, key_2, key_3 FROM rowid_copies WHERE table_name = 'usage_totals' AND NOT is_done
)
ORDER BY tenant_id, hour, metric LIMIT 1000
ON CONFLICT DO NOTHING;

UPDATE rowid_copies SET is_done = next.tenant_id IS NULL,
    key_1 = coalesce(next.tenant_id, key_1), key_2 = coalesce(next.hour, key_2), key_3 = coalesce(next.metric, key_3)
FROM (SELECT 1) LEFT JOIN (
    SELECT tenant_id, hour, metric FROM usage_totals
    WHERE (tenant_id, hour, metric) >= (
        SELECT key_1, key_2, key_3 FROM rowid_copies WHERE table_name = 'usage_totals' AND NOT is_done
    )
    ORDER BY tenant_id, hour, metric LIMIT 1 OFFSET 999
) AS next
WHERE table_name = 'usage_totals' AND NOT is_done;

INSERT INTO pepper_checks_rowid (pepper_id, value)
SELECT pepper_id, value
FROM pepper_checks
WHERE pepper_id >= (
    SELECT key_1 FROM rowid_copies WHERE table_name = 'pepper_checks' AND NOT is_done
)
ORDER BY pepper_id LIMIT 1000
ON CONFLICT DO NOTHING;

UPDATE rowid_copies SET is_done = next.pepper_id IS NULL, key_1 = coalesce(next.pepper_id, key_1)
FROM (SELECT 1) LEFT JOIN (
    SELECT pepper_id FROM pepper_checks
    WHERE pepper_id >= (
        SELECT key_1 FROM rowid_copies WHERE table_name = 'pepper_checks' AND NOT is_done
    )
    ORDER BY pepper_id LIMIT 1 OFFSET 999
) AS next
WHERE table_name = 'pepper_checks' AND NOT is_done;

-- A migration that removes its own number is run again.
DELETE FROM schema_migrations WHERE version = 17 AND EXISTS (SELECT 1 FROM rowid_copies WHERE NOT is_done);
