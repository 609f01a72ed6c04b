//! Every metric: its name, kind, unit, labels and meaning.
//!
//! Only these metrics are exported, and `METRICS.md` is generated from this table; tests check both. No label identifies a
//! tenant, a key, a session or a caller: their number is unbounded, and many people can read a monitoring system.

mod definition;
mod document;

pub use self::{
    definition::{MetricDefinition, MetricKind},
    document::render_markdown,
};

macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal $unit:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: MetricDefinition =
                MetricDefinition { name: $name, kind: MetricKind::$kind, unit: $unit, labels: &[$($label),*], help: $help };
        )*

        /// All metrics, in the order in which they are exported.
        pub const ALL: &[MetricDefinition] = &[$($constant),*];
    };
}

metrics! {
    // Requests.
    RPCS_STARTED = Counter "grpc_server_started_total" "1" ["grpc_type", "grpc_service", "grpc_method"]
        "RPCs started. grpc_type: unary, server_stream or bidi_stream. An RPC that does not exist counts as grpc_service, grpc_method and grpc_type unknown.";
    RPCS_HANDLED = Counter "grpc_server_handled_total" "1" ["grpc_type", "grpc_service", "grpc_method", "grpc_code"]
        "RPCs completed, by status code in Go's spelling; rejected and unanswered RPCs are included. Canceled: the caller stopped waiting. A message beyond its size limit, for which the caller gets RESOURCE_EXHAUSTED, counts as InvalidArgument; RESOURCE_EXHAUSTED of an unknown caller counts as Unauthenticated.";
    RPC_HANDLING = Histogram "grpc_server_handling_seconds" "s" ["grpc_type", "grpc_service", "grpc_method"]
        "Time from the request headers to the end of the response; of a stream, its whole lifetime.";
    RPC_MESSAGES_RECEIVED = Counter "grpc_server_msg_received_total" "1" ["grpc_type", "grpc_service", "grpc_method"]
        "Messages received from callers.";
    RPC_MESSAGES_SENT = Counter "grpc_server_msg_sent_total" "1" ["grpc_type", "grpc_service", "grpc_method"]
        "Messages sent to callers.";
    RPCS_IN_FLIGHT = Gauge "tenant_auth_rpcs_in_flight" "1" ["grpc_service", "grpc_method"]
        "RPCs that have started and not completed. Absent for an RPC that was never called.";
    REQUESTS_SHED = Counter "tenant_auth_requests_shed_total" "1" ["limiter"]
        "Requests, and messages of validation streams, rejected because a limiter had no permit left or the caller had reached its share.";
    PERMITS = Gauge "tenant_auth_request_permits" "1" ["limiter"]
        "Permits of each limiter for known callers: concurrent requests (TENANT_AUTH_MAX_REQUESTS), streams (TENANT_AUTH_MAX_STREAMS), requests of operators, bytes of long requests in progress, bytes of long responses that are not read yet.";
    PERMITS_IN_USE = Gauge "tenant_auth_request_permits_in_use" "1" ["limiter"]
        "Permits in use, those of unknown callers included, which have a few of their own.";
    // Connections.
    CONNECTIONS = Gauge "tenant_auth_connections" "1" ["worker"]
        "Open connections, by the worker thread that serves them.";
    CONNECTIONS_LIMIT = Gauge "tenant_auth_connections_limit" "1" []
        "Maximum number of open connections (TENANT_AUTH_MAX_CONNECTIONS).";
    CONNECTIONS_OPENED = Counter "tenant_auth_connections_opened_total" "1" []
        "Connections accepted and assigned to a worker.";
    CONNECTIONS_REFUSED = Counter "tenant_auth_connections_refused_total" "1" []
        "Connections closed at once because the limit was reached.";
    CONNECTIONS_ENDED = Counter "tenant_auth_connections_ended_total" "1" ["reason"]
        "Connections ended by the service: reason stalled (the peer read none of the waiting bytes for 10 s) or abused (the peer cancelled nearly all of its requests in a short time).";
    TLS_HANDSHAKES_FAILED = Counter "tenant_auth_tls_handshakes_failed_total" "1" ["reason"]
        "Failed TLS handshakes: reason error or timeout.";
    // Decisions.
    VERDICTS = Counter "tenant_auth_verdicts_total" "1" ["verdict"]
        "Decisions about keys and sessions; each item of a batch or stream counts separately. A denial is a good event.";
    ANSWERS = Counter "tenant_auth_answers_total" "1" ["source"]
        "The same decisions by the source of the answer: database, fresh, refreshing, stale, negative, or none where the format of the key was enough.";
    UNDECIDED = Counter "tenant_auth_undecided_total" "1" ["reason"]
        "Keys and sessions without a decision, each item separately: the kind of the database failure, or not_tried.";
    // The cache.
    CACHE_ENTRIES = Gauge "tenant_auth_cache_entries" "1" ["cache", "kind"]
        "Cached entries: cache keys or sessions, kind record or negative.";
    CACHE_CAPACITY = Gauge "tenant_auth_cache_capacity" "1" ["cache", "kind"]
        "Maximum number of cached entries.";
    CACHE_MISSES = Counter "tenant_auth_cache_misses_total" "1" ["cache"]
        "Lookups that the cache could not answer and that waited for the database.";
    UNKNOWN_LOOKUPS_REFUSED = Counter "tenant_auth_unknown_lookups_refused_total" "1" ["limit"]
        "Uncached keys and sessions that were not looked up because the limit of lookups that find nothing was reached: limit caller (TENANT_AUTH_UNKNOWN_LOOKUPS_PER_CALLER) or process (TENANT_AUTH_UNKNOWN_LOOKUPS).";
    CACHE_EVICTIONS = Counter "tenant_auth_cache_evictions_total" "1" ["cache", "kind"]
        "Entries evicted because the cache was full.";
    CACHE_LOADS = Gauge "tenant_auth_cache_loads_in_flight" "1" ["cache"]
        "Keys or sessions that are being loaded.";
    CACHE_OLDEST_ANSWER_AGE = Gauge "tenant_auth_cache_oldest_answer_age_seconds" "s" []
        "Age of the oldest answer from the cache within the last minute that was no longer fresh; 0 if there was none.";
    CACHE_GRACE = Gauge "tenant_auth_cache_grace_seconds" "s" []
        "Maximum age of a cached answer while the database cannot be read (TENANT_AUTH_CACHE_GRACE, or the value that an operator has set).";
    CACHE_GRACE_REMAINING = Gauge "tenant_auth_cache_grace_remaining_seconds" "s" ["record"]
        "Time until the grace ends for the oldest and for the median recently used key (loaded within the hour before the outage, or since); negative after its end; the whole grace while the database can be read and is trusted.";
    CACHE_RECORDS_BEYOND_GRACE = Gauge "tenant_auth_cache_beyond_grace_records" "1" []
        "Cached keys beyond the grace while the database cannot be read or is not trusted; 0 while it can.";
    // The change feed and its subscribers.
    FEED_ENABLED = Gauge "tenant_auth_feed_enabled" "1" []
        "1 if the change feed is enabled (TENANT_AUTH_FEED_INTERVAL).";
    FEED_LAG = Gauge "tenant_auth_feed_lag_seconds" "s" []
        "Time since the change log was last read to its end, or since the start if it never was. Absent if the feed is off.";
    FEED_EVENTS = Counter "tenant_auth_feed_events_total" "1" []
        "Changes read from the change log.";
    FEED_DISCONTINUITIES = Counter "tenant_auth_feed_discontinuities_total" "1" []
        "Change-log discontinuities (restore, prune, or another database), after which the whole cache is revalidated. The first read is none.";
    RETAINED_REVOCATIONS = Gauge "tenant_auth_retained_revocations" "1" []
        "Revocations, suspensions and unbound sessions that the replica holds although the database may lack them, because a database that was rolled back was accepted.";
    WATCH_SUBSCRIBERS = Gauge "tenant_auth_watch_subscribers" "1" []
        "Callers subscribed to Watch.";
    WATCH_SUBSCRIBERS_DROPPED = Counter "tenant_auth_watch_subscribers_dropped_total" "1" []
        "Subscribers dropped because they fell too far behind.";
    // The database.
    DATABASE_UP = Gauge "tenant_auth_database_up" "1" ["operation"]
        "Operation read: 1 if the database answered the last conclusive read, else 0. Operation write: 1 if the last write succeeded, 0 if it was rejected, failed, or got no response. Neither says anything about the other. Absent before the first one.";
    DATABASE_LAST_ATTEMPT = Gauge "tenant_auth_database_last_attempt_timestamp_seconds" "s" ["operation"]
        "Unix time of the end of the call that tenant_auth_database_up reports. Absent before the first one.";
    DATABASE_WRITES_STALLED = Gauge "tenant_auth_database_writes_stalled" "1" []
        "1 if the last write got no response in time (TENANT_AUTH_DATABASE_WRITE_TIMEOUT): its outcome is unknown.";
    DATABASE_WRITES_WAITING = Gauge "tenant_auth_database_writes_waiting" "1" ["lane"]
        "Queued writes: one call is in flight at a time.";
    DATABASE_WRITE_IN_PROGRESS = Gauge "tenant_auth_database_write_in_progress_seconds" "s" []
        "Duration so far of the write in flight; 0 if there is none.";
    DATABASE_TRUSTED = Gauge "tenant_auth_database_trusted" "1" []
        "0 while the database is not the one that this replica knows (another one, an empty one, or one that was rolled back), so that the cache answers; else 1.";
    DATABASE_READ_REPLICA_STALLED = Gauge "tenant_auth_database_read_replica_stalled_seconds" "s" []
        "Time for which the database replica that is read has not advanced while its primary has; 0 while it advances.";
    DATABASE_READ_REPLICA_USED = Gauge "tenant_auth_database_read_replica_used" "1" []
        "1 while reads go to the read replica, 0 while the primary answers them instead. Absent without TENANT_AUTH_DATABASE_READ_URL.";
    DATABASE_READ_REPLICA_LAG = Gauge "tenant_auth_database_read_replica_lag_seconds" "s" []
        "Time for which the read replica has lacked a state that the primary has shown; 0 if it shows the last one. Absent without TENANT_AUTH_DATABASE_READ_URL.";
    DATABASE_READ_REPLICA_LAG_CHANGES = Gauge "tenant_auth_database_read_replica_lag_changes" "1" []
        "Entries of the change log that the read replica lacked when it was last read. Absent without TENANT_AUTH_DATABASE_READ_URL.";
    DATABASE_READS = Counter "tenant_auth_database_reads_total" "1" ["source"]
        "Reads that a server has answered: source read_replica or primary. Absent without TENANT_AUTH_DATABASE_READ_URL.";
    DATABASE_READ_FALLBACKS = Counter "tenant_auth_database_read_fallbacks_total" "1" []
        "Reads that went to the primary after the read replica had failed to answer them. Absent without TENANT_AUTH_DATABASE_READ_URL.";
    SCHEDULER_LAG = Gauge "tenant_auth_scheduler_lag_seconds" "s" []
        "Maximum delay of a thread of this process within the last minute, because it got no CPU. Reads that time out meanwhile fail as starved and are not counted against the database.";
    CLOCK_OFFSET = Gauge "tenant_auth_clock_offset_seconds" "s" []
        "This machine's clock minus the database's, accurate to half the duration of a read of the change log. Absent before the first one.";
    DATABASE_CALL_DURATION = Histogram "tenant_auth_database_call_duration_seconds" "s" ["lane", "outcome"]
        "Duration of each call to the database, its primary or its read replica, every attempt separately, including the wait for the bulkhead: outcome ok or the kind of failure.";
    DATABASE_FAILURES = Counter "tenant_auth_database_failures_total" "1" ["operation", "kind"]
        "Failed calls, every attempt separately: operation read or write. denied: the token is rejected (401; 403 of a read); invalid_response: the response cannot be read; schema_missing: a table or the namespace is missing; internal: a defect; blocked: over a quota, or suspended (BLOCKED, 402); read_only: the token or the database allows only reads (403 of a write, SQLITE_READONLY), which counts as a write; disk_full: no space for a write; circuit_open: not sent.";
    DATABASE_ROWS_READ = Counter "tenant_auth_database_rows_read_total" "1" ["lane"]
        "Rows that the statements of a lane have read, as the remote database counts and Turso bills them. Absent for the embedded database.";
    DATABASE_ROWS_WRITTEN = Counter "tenant_auth_database_rows_written_total" "1" ["lane"]
        "Rows that they have written, those of indexes and triggers included.";
    DATABASE_RETRIES = Counter "tenant_auth_database_retries_total" "1" []
        "Second attempts.";
    DATABASE_CALLS = Gauge "tenant_auth_database_calls_in_flight" "1" ["lane"]
        "Reads in flight.";
    DATABASE_CALLS_LIMIT = Gauge "tenant_auth_database_calls_limit" "1" ["lane"]
        "Maximum number of reads in flight: the lane's share of TENANT_AUTH_DATABASE_MAX_IN_FLIGHT.";
    BREAKER_OPEN = Gauge "tenant_auth_database_breaker_open" "1" ["circuit"]
        "1 while a circuit is open and only probes are sent. Circuit lookups: keys and sessions, for which only the cache answers meanwhile; writes: every write; the others: listings.";
    BREAKER_OPENED = Counter "tenant_auth_database_breaker_opened_total" "1" ["circuit"]
        "Times that a circuit opened.";
    UNREADABLE_RECORDS = Counter "tenant_auth_unreadable_records_total" "1" ["table"]
        "Reads of a record that exists and cannot be read, which is an error of that record alone; the log names it once an hour.";
    LEAK_REPORTS = Counter "tenant_auth_leak_reports_total" "1" ["effect"]
        "Reports of leaked keys: effect disable, notify or expire (the policy that a first report applied), already_reported, or unknown_key.";
    // Limits.
    LIMIT_DECISIONS = Counter "tenant_auth_limit_decisions_total" "1" ["result", "decided_by"]
        "What limits decided, each limit of a request separately. result: admitted, quota_exceeded, rate_limited, shadow_exceeded (a shadow limit had less left than the request cost), or undecided, which counts once per request. decided_by: lease, database, local_share (the lease, while no lease can be exchanged), or outage_policy (not checked: OUTAGE_POLICY_OPEN).";
    LIMIT_COUNTERS = Gauge "tenant_auth_limit_counters" "1" []
        "Counters of limits in memory: one for each limit of a tenant or a key.";
    LIMIT_EXCHANGES = Counter "tenant_auth_limit_exchanges_total" "1" ["outcome"]
        "Transactions that exchange leases with the database: outcome ok or failed; each attempt counts, and one without a response for a second counts as failed, too.";
    LIMIT_EXCHANGE_DURATION = Histogram "tenant_auth_limit_exchange_duration_seconds" "s" []
        "Duration of exchanges that were committed; of a repeated one, the last attempt.";
    LIMIT_EXCHANGE_FAILING = Gauge "tenant_auth_limit_exchange_failing_seconds" "s" []
        "Time for which exchanges of leases have failed; 0 if the last one succeeded, or none was needed yet.";
    LIMIT_LEASES_EXCHANGED = Counter "tenant_auth_limit_leases_exchanged_total" "1" []
        "Leases in these exchanges: one for each counter and window that something is reported, asked or given back of.";
    LIMIT_LEASES_STARVED = Counter "tenant_auth_limit_leases_starved_total" "1" []
        "Leases of quotas and credits that got less than callers waited for while other replicas held a part of the limit.";
    // Front doors.
    FRONT_DOOR_REQUESTS = Counter "tenant_auth_front_door_requests_total" "1" ["door", "code"]
        "Requests that a proxy or other HTTP software asked about, by outcome: door ext_authz (Envoy), forward_auth, nginx or introspection; code ADMITTED, a denial, UNDECIDED, or PROXY_MISCONFIGURED and UNKNOWN_CALLER, for which the operator of the proxy has to act.";
    FRONT_DOOR_DURATION = Histogram "tenant_auth_front_door_duration_seconds" "s" ["door"]
        "Time to answer such a request.";
    // Usage.
    USAGE_QUEUE = Gauge "tenant_auth_usage_queue_events" "1" []
        "Usage events that are queued or being committed.";
    USAGE_QUEUE_CAPACITY = Gauge "tenant_auth_usage_queue_capacity_events" "1" []
        "Maximum number of queued usage events (TENANT_AUTH_USAGE_QUEUE).";
    USAGE_EVENTS = Counter "tenant_auth_usage_events_total" "1" ["outcome"]
        "Usage events by outcome: counted, rejected (invalid), repeated (the request was counted before), refused (the queue was full), failed (not committed).";
    USAGE_ROWS = Counter "tenant_auth_usage_rows_written_total" "1" ["table"]
        "Rows inserted or updated to record usage: usage_requests, usage_events, usage_totals.";
    USAGE_FLUSH_DURATION = Histogram "tenant_auth_usage_flush_duration_seconds" "s" []
        "Time to commit one batch, including the retry.";
    USAGE_RECONCILE_INTERVAL = Gauge "tenant_auth_usage_reconcile_interval_seconds" "s" []
        "Time between two comparisons of usage totals with their events by this replica (TENANT_AUTH_USAGE_RECONCILE_INTERVAL); 0 if it makes none.";
    USAGE_TOTALS_MISMATCHED = Gauge "tenant_auth_usage_totals_mismatched" "1" []
        "Usage totals that differed from the sums of their events in the last comparison by this replica; 0 before the first one.";
    USAGE_LAST_RECONCILED_AT = Gauge "tenant_auth_usage_last_reconciled_timestamp_seconds" "s" []
        "Unix time of the end of the last comparison of usage totals by this replica; 0 before the first one.";
    // The copy of the audit log.
    AUDIT_ENTRIES_COPIED = Counter "tenant_auth_audit_entries_copied_total" "1" []
        "Audit log entries that this replica has written to its file (TENANT_AUTH_AUDIT_FILE).";
    AUDIT_COPY_FAILURES = Counter "tenant_auth_audit_copy_failures_total" "1" []
        "Failed attempts to copy new audit log entries, one every 5 s: the log could not be read, or the file could not be written.";
    AUDIT_COPY_COMPLETE_AT = Gauge "tenant_auth_audit_copy_complete_timestamp_seconds" "s" []
        "Unix time at which the file last had every audit log entry, or since when this replica writes it; 0 if it writes none.";
    // The process.
    READY = Gauge "tenant_auth_ready" "1" []
        "1 if the replica accepts requests; an outage of the database does not change it.";
    RELOAD_FAILED = Gauge "tenant_auth_reload_failed" "1" ["file"]
        "1 while a changed file (callers, certificates, deny list, principal keys, database token) cannot be used and its previous content stays in effect.";
    CERTIFICATE_EXPIRY = Gauge "tenant_auth_certificate_expiry_timestamp_seconds" "s" ["certificate"]
        "Unix time at which a certificate in use expires; of several, the first. server: the server's chain (TENANT_AUTH_TLS_CERT_FILE); client_ca: the roots of callers' certificates (TENANT_AUTH_TLS_CLIENT_CA_FILE); database_ca: private roots for the database's certificate (SSL_CERT_FILE, SSL_CERT_DIR), as read at the start. Absent if there is none.";
    CERTIFICATE_NOT_BEFORE = Gauge "tenant_auth_certificate_not_before_timestamp_seconds" "s" ["certificate"]
        "Unix time from which the same certificate is valid: the difference is its lifetime.";
    TOKEN_EXPIRY = Gauge "tenant_auth_token_expiry_timestamp_seconds" "s" ["token"]
        "Unix time at which the database token in use expires (claim exp): token reads or writes. Absent if there is no token, or it is not a JWT, or it has no expiry.";
    TOKEN_ISSUED = Gauge "tenant_auth_token_issued_timestamp_seconds" "s" ["token"]
        "Unix time at which the same token was issued (claim iat, else nbf). Absent if the token does not say.";
    DENY_LIST_ENTRIES = Gauge "tenant_auth_deny_list_entries" "1" ["kind"]
        "Entries of the deny list in use (TENANT_AUTH_DENY_FILE): keys, tenants, hashes.";
    PEPPER_MISSING = Gauge "tenant_auth_pepper_missing" "1" []
        "1 while live keys are stored under a pepper that this replica does not have: keys that it does not find are UNAVAILABLE.";
    BUILD_INFO = Gauge "tenant_auth_build_info" "1" ["version", "commit", "branch", "dirty"]
        "Always 1: the build. dirty is true if tracked files differed from the commit.";
    PROCESS_START = Gauge "process_start_time_seconds" "s" []
        "Unix time at which the service started.";
    PROCESS_CPU = Counter "process_cpu_seconds_total" "s" []
        "CPU time in user and system mode (Linux only).";
    PROCESS_MEMORY = Gauge "process_resident_memory_bytes" "By" []
        "Resident memory (Linux only).";
    PROCESS_FDS = Gauge "process_open_fds" "1" []
        "Open file descriptors (Linux only).";
    PROCESS_MAX_FDS = Gauge "process_max_fds" "1" []
        "Maximum number of open file descriptors (Linux only).";
    PROCESS_THREADS = Gauge "process_threads" "1" []
        "Threads (Linux only).";
    // Logs and OTLP.
    LOG_LINES_SUPPRESSED = Counter "tenant_auth_log_lines_suppressed_total" "1" []
        "Log lines that were counted instead of written, because there were many of one kind (TENANT_AUTH_LOG_BURST).";
    OTLP_SPANS = Counter "tenant_auth_otlp_spans_total" "1" ["outcome"]
        "Ended spans: exported, dropped (the queue was full) or failed (the collector rejected them).";
    OTLP_EXPORTS = Counter "tenant_auth_otlp_exports_total" "1" ["signal", "outcome"]
        "Requests to the collector: signal traces or metrics, outcome ok or failed.";
}

/// Replaces [`RPC_HANDLING`] in OTLP, as named by the OpenTelemetry semantic conventions.
pub const RPC_SERVER_CALL_DURATION: MetricDefinition = MetricDefinition {
    name: "rpc.server.call.duration",
    kind: MetricKind::Histogram,
    unit: "s",
    labels: &["rpc.system.name", "rpc.method", "rpc.response.status_code", "error.type"],
    help: "Duration of inbound RPCs; of a stream, its whole life.",
};

/// Replaces [`DATABASE_CALL_DURATION`] in OTLP, as named by the OpenTelemetry semantic conventions.
pub const DB_CLIENT_OPERATION_DURATION: MetricDefinition = MetricDefinition {
    name: "db.client.operation.duration",
    kind: MetricKind::Histogram,
    unit: "s",
    labels: &["db.system.name", "db.operation.name", "tenant_auth.lane", "error.type"],
    help: "Duration of database client operations, every attempt by itself.",
};

/// The metrics of OTLP alone, each with the metric of [`ALL`] that it replaces.
pub const OTLP_ONLY: &[(MetricDefinition, MetricDefinition)] =
    &[(RPC_SERVER_CALL_DURATION, RPC_HANDLING), (DB_CLIENT_OPERATION_DURATION, DATABASE_CALL_DURATION)];

impl MetricDefinition {
    /// The name in OTLP: without the suffixes that Prometheus adds to metrics that it receives by OTLP.
    #[must_use]
    pub fn otlp_name(&self) -> &'static str {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        let unit = match self.unit {
            "s" => "_seconds",
            "By" => "_bytes",
            _ => return name,
        };
        name.strip_suffix(unit).unwrap_or(name)
    }

    /// The unit in OTLP. Plain numbers have none: Prometheus translates `1` to the suffix `_ratio`.
    #[must_use]
    pub fn otlp_unit(&self) -> &'static str {
        if self.unit == "1" { "" } else { self.unit }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_follow_the_rules() {
        let mut seen = BTreeSet::new();
        for metric in ALL {
            let MetricDefinition { name, kind, unit, labels, help } = metric;
            assert!(seen.insert(name), "{name}: twice");
            let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            let prefixes = ["tenant_auth_", "grpc_server_", "process_"];
            assert!(prefixes.iter().any(|prefix| name.starts_with(prefix)) && plain, "{name}");
            assert_eq!(name.ends_with("_total"), *kind == MetricKind::Counter, "{name}");
            let bare = name.trim_end_matches("_total");
            assert_eq!(bare.ends_with("_seconds"), *unit == "s", "{name}");
            assert_eq!(bare.ends_with("_bytes"), *unit == "By", "{name}");
            assert!(["s", "By", "1"].contains(unit) && help.ends_with('.') && !help.contains('|'), "{name}");
            for label in *labels {
                let personal = ["tenant", "key", "session", "caller"].iter().any(|word| label.contains(word));
                assert!(!personal, "{name}: {label} is unbounded");
            }
        }
    }

    /// The name that Prometheus gives to a metric that it receives by OTLP.
    fn prometheus_name(metric: &MetricDefinition) -> String {
        let unit = match metric.otlp_unit() {
            "s" => "_seconds",
            "By" => "_bytes",
            _ => "",
        };
        let total = if metric.kind == MetricKind::Counter { "_total" } else { "" };
        format!("{}{unit}{total}", metric.otlp_name())
    }

    #[test]
    fn prometheus_restores_every_name_from_otlp() {
        let mut seen = BTreeSet::new();
        for metric in ALL {
            assert_eq!(prometheus_name(metric), metric.name);
            assert!(seen.insert(metric.otlp_name()), "{}: twice", metric.otlp_name());
        }
    }
}
