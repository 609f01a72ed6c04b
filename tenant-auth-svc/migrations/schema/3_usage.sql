-- What tenants consumed: requests to recognise a repeated one, what each of them counted, and the sums. Nothing here goes into the
-- change log: no verdict depends on it.
--
-- Times are unix milliseconds. hour is the moment at which the hour starts.

-- batch names the transaction that recorded the request. refused is a JSON array of [index, reason], unknown_tenants a JSON
-- array of those its events named and that were not there: a repeated request gets the answer that the first one got.
-- caller is the name in the callers file, because an id is unique to its caller; NULL: the build that wrote it did not say. A
-- request whose id was free is written under the id as it is. One whose id is another caller's is written under the id, U+001F
-- (which no id holds) and the caller's name.
CREATE TABLE usage_requests (
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    request_id      TEXT    NOT NULL UNIQUE,
    payload_hash    BLOB    NOT NULL CHECK (length(payload_hash) = 32),
    first_seen_at   INTEGER NOT NULL,
    batch           INTEGER NOT NULL,
    refused         TEXT    NOT NULL CHECK (json_valid(refused)),
    unknown_tenants TEXT    NOT NULL CHECK (json_valid(unknown_tenants)),
    caller          TEXT
);

-- The events of one request with the same tenant, hour and metric are one row. A sum that leaves the integers would go wrong
-- without a word: it is refused.
CREATE TABLE usage_events (
    tenant_id TEXT    NOT NULL REFERENCES tenants (id),
    hour      INTEGER NOT NULL,
    metric    TEXT    NOT NULL,
    request   INTEGER NOT NULL,
    quantity  INTEGER NOT NULL CHECK (typeof(quantity) = 'integer' AND quantity >= 0),
    PRIMARY KEY (tenant_id, hour, metric, request)
);

CREATE TABLE usage_totals (
    tenant_id TEXT    NOT NULL REFERENCES tenants (id),
    hour      INTEGER NOT NULL,
    metric    TEXT    NOT NULL,
    quantity  INTEGER NOT NULL CHECK (typeof(quantity) = 'integer' AND quantity >= 0),
    PRIMARY KEY (tenant_id, hour, metric)
);

-- The totals of usage that are kept when their tenant is deleted. usage_totals refers to tenants, so they cannot stay there.
CREATE TABLE deleted_usage (
    tenant_id TEXT    NOT NULL,
    hour      INTEGER NOT NULL,
    metric    TEXT    NOT NULL,
    quantity  INTEGER NOT NULL CHECK (typeof(quantity) = 'integer' AND quantity >= 0),
    PRIMARY KEY (tenant_id, hour, metric)
);

-- Not on a deletion: totals outlive the events that they were made of.
CREATE TRIGGER usage_events_inserted AFTER INSERT ON usage_events
BEGIN
    INSERT INTO usage_totals (tenant_id, hour, metric, quantity)
    VALUES (NEW.tenant_id, NEW.hour, NEW.metric, NEW.quantity)
    ON CONFLICT (tenant_id, hour, metric) DO UPDATE SET quantity = quantity + excluded.quantity;
END;
