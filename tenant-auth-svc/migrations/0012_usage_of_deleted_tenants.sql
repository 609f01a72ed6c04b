-- The totals of usage that were kept when their tenant was deleted. usage_totals refers to tenants, so they cannot stay there.
CREATE TABLE deleted_usage (
    tenant_id TEXT    NOT NULL,
    hour      INTEGER NOT NULL,
    metric    TEXT    NOT NULL,
    quantity  INTEGER NOT NULL CHECK (typeof(quantity) = 'integer' AND quantity >= 0),
    PRIMARY KEY (tenant_id, hour, metric)
);
