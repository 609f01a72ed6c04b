-- A tenant whose deletion began: it stays suspended, and cannot be resumed.
ALTER TABLE tenants ADD COLUMN deletion_started_at INTEGER;

-- The totals of usage that are kept when their tenant is deleted. usage_totals refers to tenants, so they cannot stay there.
CREATE TABLE deleted_usage (
    tenant_id TEXT    NOT NULL,
    hour      INTEGER NOT NULL,
    metric    TEXT    NOT NULL,
    quantity  INTEGER NOT NULL CHECK (typeof(quantity) = 'integer' AND quantity >= 0),
    PRIMARY KEY (tenant_id, hour, metric)
);
