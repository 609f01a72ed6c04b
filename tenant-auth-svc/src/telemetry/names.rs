//! Every metric by name: what it counts or measures, in what unit, under which labels.
//!
//! Nothing is exposed that is not here, and `METRICS.md` is made of this table; tests hold both. No label ever names a
//! tenant, a key, a session or a caller: their number has no end, and what a monitoring system stores is read by many.

use crate::instruments::durations::BUCKET_BOUNDS;

/// What kind of number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It only grows, until the process ends.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How many of its observations were at most as long as each of a row of bounds, their number and their sum.
    Histogram,
}

impl MetricKind {
    /// As the exposition formats write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric.
#[derive(Debug, PartialEq, Eq)]
pub struct MetricDefinition {
    /// Its name; a counter's ends with `_total`, one with a unit bears it before that.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: MetricKind,
    /// By UCUM, as OTLP has it: `s`, `By`, or `1` for a plain number.
    pub unit: &'static str,
    /// The names of its labels, in order.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal $unit:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: MetricDefinition =
                MetricDefinition { name: $name, kind: MetricKind::$kind, unit: $unit, labels: &[$($label),*], help: $help };
        )*

        /// All of them, in the order in which they are told.
        pub const ALL: &[MetricDefinition] = &[$($constant),*];
    };
}

metrics! {
    // Requests.
    REQUESTS = Counter "tenant_auth_requests_total" "1" ["rpc", "code"]
        "RPCs that have ended, those that were refused or not answered included; code CANCELLED: the caller did not wait for the end. A message beyond its size limit, for which the caller gets RESOURCE_EXHAUSTED, counts as INVALID_ARGUMENT; the same for want of a place for callers that nobody knows counts as UNAUTHENTICATED.";
    REQUEST_DURATION = Histogram "tenant_auth_request_duration_seconds" "s" ["rpc"]
        "Time from a request's head to the end of its answer; of a stream, its whole life.";
    REQUESTS_IN_FLIGHT = Gauge "tenant_auth_requests_in_flight" "1" ["rpc"]
        "RPCs that have begun and not ended.";
    REQUESTS_SHED = Counter "tenant_auth_requests_shed_total" "1" ["pool"]
        "Requests, and messages of validation streams, refused because a pool had no place left, or their caller had its share of it.";
    PERMITS = Gauge "tenant_auth_request_places" "1" ["pool"]
        "What known callers together may have at once: requests in work (TENANT_AUTH_MAX_REQUESTS), streams (TENANT_AUTH_MAX_STREAMS), \
         requests of operators, bytes of long requests that are not answered, bytes of long answers that are not read.";
    PERMITS_IN_USE = Gauge "tenant_auth_request_places_taken" "1" ["pool"]
        "Of these places, those that are taken; those of callers that nobody knows, which have some of their own, are among them.";
    // Connections.
    CONNECTIONS = Gauge "tenant_auth_connections" "1" ["worker"]
        "Connections open, by the worker thread that serves them.";
    CONNECTIONS_LIMIT = Gauge "tenant_auth_connections_limit" "1" []
        "Connections that may be open at once (TENANT_AUTH_MAX_CONNECTIONS).";
    CONNECTIONS_OPENED = Counter "tenant_auth_connections_opened_total" "1" []
        "Connections accepted and handed to a worker.";
    CONNECTIONS_REFUSED = Counter "tenant_auth_connections_refused_total" "1" []
        "Connections closed at once because as many as may be were open.";
    CONNECTIONS_ENDED = Counter "tenant_auth_connections_ended_total" "1" ["reason"]
        "Connections that the service has ended: reason stalled (nothing that waited for the peer was read for 10 s) or abused (nearly \
         everything that the peer asked for it gave up, in a rush).";
    TLS_HANDSHAKES_FAILED = Counter "tenant_auth_tls_handshakes_failed_total" "1" ["reason"]
        "TLS handshakes that came to nothing: reason error or timeout.";
    // Decisions.
    VERDICTS = Counter "tenant_auth_verdicts_total" "1" ["verdict"]
        "Decisions about keys and sessions, each item of a batch or stream by itself. A denial is a good answer.";
    ANSWERS = Counter "tenant_auth_answers_total" "1" ["source"]
        "The same decisions by where the answer came from: database, fresh, refreshing, stale, negative, or none where looks were enough.";
    UNDECIDED = Counter "tenant_auth_undecided_total" "1" ["reason"]
        "Keys and sessions about which nothing could be said, each item by itself: the kind of the database's failure, or not_tried.";
    // Memory.
    CACHE_ENTRIES = Gauge "tenant_auth_cache_entries" "1" ["pool", "kind"]
        "Entries in memory: pool keys or sessions, kind record or absence.";
    CACHE_CAPACITY = Gauge "tenant_auth_cache_capacity" "1" ["pool", "kind"]
        "Entries for which there is room.";
    CACHE_MISSES = Counter "tenant_auth_cache_misses_total" "1" ["pool"]
        "Look-ups that memory could not answer, so that the database was asked and waited for.";
    GUESSES_REFUSED = Counter "tenant_auth_guesses_refused_total" "1" ["bound"]
        "Keys and sessions that nobody has seen and that were not looked up, because as many as may be were asked for that are not there: by the caller (TENANT_AUTH_UNKNOWN_LOOKUPS_PER_CALLER), or by all in this process (TENANT_AUTH_UNKNOWN_LOOKUPS).";
    CACHE_EVICTIONS = Counter "tenant_auth_cache_evictions_total" "1" ["pool", "kind"]
        "Entries that had to go for want of room.";
    CACHE_LOADS = Gauge "tenant_auth_cache_loads_in_flight" "1" ["pool"]
        "Keys or sessions that are being loaded.";
    CACHE_OLDEST_ANSWER = Gauge "tenant_auth_cache_oldest_answer_seconds" "s" []
        "Age of the oldest answer given from memory within the last minute, of those no longer fresh; 0 when there was none.";
    CACHE_GRACE = Gauge "tenant_auth_cache_grace_seconds" "s" []
        "Age up to which memory may answer while the database does not (TENANT_AUTH_CACHE_GRACE, or what an operator has set).";
    CACHE_GRACE_REMAINING = Gauge "tenant_auth_cache_grace_ends_seconds" "s" ["of"]
        "Time until the grace ends for the oldest and for the median of the keys in use (loaded within the last hour before the database went away, or since), negative once it has; the whole grace while the database answers and is believed.";
    CACHE_RECORDS_BEYOND_GRACE = Gauge "tenant_auth_cache_beyond_grace_records" "1" []
        "Keys in memory that the grace does not cover any more while the database is away or not believed; 0 while it answers.";
    // The change feed, and who listens to it.
    FEED_ENABLED = Gauge "tenant_auth_feed_enabled" "1" []
        "1 where the change feed is followed (TENANT_AUTH_FEED_INTERVAL).";
    FEED_LAG = Gauge "tenant_auth_feed_lag_seconds" "s" []
        "Time since the change log was last read to its end; since the start, when it never was. Absent where the feed is off.";
    FEED_EVENTS = Counter "tenant_auth_feed_events_total" "1" []
        "Changes read from the log.";
    FEED_DISCONTINUITIES = Counter "tenant_auth_feed_start_overs_total" "1" []
        "Times that the log did not go on from where it was read, so that all of memory is verified; the first reading is none.";
    HELD_REVOCATIONS = Gauge "tenant_auth_held_ends" "1" []
        "Revocations, suspensions and unbindings that are held although the database may lack them: it was rolled back and accepted as it is.";
    WATCH_SUBSCRIBERS = Gauge "tenant_auth_watch_subscribers" "1" []
        "Callers subscribed to Watch.";
    WATCH_SUBSCRIBERS_DROPPED = Counter "tenant_auth_watch_cut_off_total" "1" []
        "Subscribers cut off because they fell too far behind.";
    // The database.
    DATABASE_UP = Gauge "tenant_auth_database_up" "1" ["operation"]
        "Operation read: 1 when the database answered the last read that tells, else 0. Operation write: 1 when it made the last change that was sent, 0 when it refused it, failed, or gave no answer. Neither says anything about the other. Absent before the first one.";
    DATABASE_LAST_TRIED = Gauge "tenant_auth_database_last_tried_timestamp_seconds" "s" ["operation"]
        "Unix time at which the last call ended of which tenant_auth_database_up tells. Absent before the first one.";
    DATABASE_WRITES_STALLED = Gauge "tenant_auth_database_writes_stalled" "1" []
        "1 when the last change that was sent got no answer in time (TENANT_AUTH_DATABASE_WRITE_TIMEOUT): nobody knows whether it was made.";
    DATABASE_WRITES_WAITING = Gauge "tenant_auth_database_writes_waiting" "1" ["lane"]
        "Changes that wait for their turn: one call is under way at a time.";
    DATABASE_WRITE_IN_FLIGHT_SECONDS = Gauge "tenant_auth_database_write_under_way_seconds" "s" []
        "For how long the change that is under way has been; 0 when none is.";
    DATABASE_TRUSTED = Gauge "tenant_auth_database_trusted" "1" []
        "0 while the database is not the one that this replica knows (another one, an emptied one, one that was rolled back), so that it is not believed and memory answers; else 1.";
    DATABASE_STANDSTILL = Gauge "tenant_auth_database_standstill_seconds" "s" []
        "For how long the copy of the database that is read has stood still while its primary went on; 0 while it moves.";
    SCHEDULER_LAG = Gauge "tenant_auth_scheduler_lag_seconds" "s" []
        "How late a thread of this process was at most within the last minute for what it meant to do, because it was given no CPU. Reads that run out of time meanwhile fail as starved, and are not held against the database.";
    CLOCK_OFFSET = Gauge "tenant_auth_clock_offset_seconds" "s" []
        "This machine's clock less the database's, give or take half of a read of the change log. Absent before the first one.";
    DATABASE_CALL_DURATION = Histogram "tenant_auth_database_call_duration_seconds" "s" ["lane", "outcome"]
        "Time of each call to the database, every attempt by itself, the wait for room included: outcome ok or the kind of failure.";
    DATABASE_FAILURES = Counter "tenant_auth_database_failures_total" "1" ["operation", "kind"]
        "Calls that failed, every attempt by itself: operation read or write. denied: the token is refused (401; 403 of a read); blocked: a quota, or the database is suspended (BLOCKED, 402); read_only: the token or the database may be read only (403 of a write, SQLITE_READONLY), which counts as a write; disk_full: no room for a write; circuit_open: not asked.";
    DATABASE_RETRIES = Counter "tenant_auth_database_retries_total" "1" []
        "Second attempts.";
    DATABASE_CALLS = Gauge "tenant_auth_database_calls_in_flight" "1" ["lane"]
        "Reads that are under way.";
    DATABASE_CALLS_LIMIT = Gauge "tenant_auth_database_calls_limit" "1" ["lane"]
        "Reads that may be under way at once: the lane's share of TENANT_AUTH_DATABASE_MAX_IN_FLIGHT.";
    BREAKER_OPEN = Gauge "tenant_auth_database_breaker_open" "1" ["circuit"]
        "1 while calls of a circuit are sent only now and then, because they did not get through. Circuit lookups: keys and sessions, without which only memory answers; writes: every change; the others: listings.";
    BREAKER_OPENED = Counter "tenant_auth_database_breaker_opened_total" "1" ["circuit"]
        "Times that a circuit opened.";
    UNREADABLE_RECORDS = Counter "tenant_auth_unreadable_records_total" "1" ["table"]
        "Reads of a record that is there and cannot be read, so that it is an error by itself; the log names it once an hour.";
    // Usage.
    USAGE_QUEUE = Gauge "tenant_auth_usage_queue_events" "1" []
        "Usage events that wait or are being committed.";
    USAGE_QUEUE_CAPACITY = Gauge "tenant_auth_usage_queue_capacity_events" "1" []
        "Usage events for which there is room (TENANT_AUTH_USAGE_QUEUE).";
    USAGE_EVENTS = Counter "tenant_auth_usage_events_total" "1" ["outcome"]
        "Usage events by what became of them: counted, rejected (never countable), repeated (their request was counted before), refused (the queue was full), failed (not committed).";
    USAGE_ROWS = Counter "tenant_auth_usage_rows_written_total" "1" ["table"]
        "Rows inserted or updated by counting usage: usage_requests, usage_events, usage_totals.";
    USAGE_FLUSH_DURATION = Histogram "tenant_auth_usage_flush_duration_seconds" "s" []
        "Time to commit what waited together, its retry included.";
    USAGE_RECONCILE_INTERVAL = Gauge "tenant_auth_usage_reconcile_interval_seconds" "s" []
        "Time between two comparisons of usage totals with their events by this replica (TENANT_AUTH_USAGE_RECONCILE_INTERVAL); 0 where it makes none.";
    USAGE_TOTALS_DIFFERING = Gauge "tenant_auth_usage_totals_differing" "1" []
        "Usage totals that were not the sums of their events when this replica last compared all of them; 0 before the first comparison.";
    USAGE_RECONCILED_AT = Gauge "tenant_auth_usage_reconciled_timestamp_seconds" "s" []
        "When the last comparison of usage totals by this replica ended, in seconds since 1970 by its clock; 0 before the first one.";
    // The copy of the audit log.
    AUDIT_COPIED = Counter "tenant_auth_audit_copied_total" "1" []
        "Entries of the audit log that this replica has written to its file (TENANT_AUTH_AUDIT_FILE).";
    AUDIT_COPY_FAILURES = Counter "tenant_auth_audit_copy_failures_total" "1" []
        "Looks for new entries of the audit log, one every 5 s, that failed: the log could not be read or the file not be written.";
    AUDIT_COPY_COMPLETE_AT = Gauge "tenant_auth_audit_copy_complete_timestamp_seconds" "s" []
        "When the file last had every entry of the audit log, in seconds since 1970 by this replica's clock, or since when this replica writes it; 0 where it writes none.";
    // The process.
    READY = Gauge "tenant_auth_ready" "1" []
        "1 when requests should be sent here; an outage of the database does not change it.";
    RELOAD_REFUSED = Gauge "tenant_auth_reload_refused" "1" ["file"]
        "1 while callers, certificates or the deny list have changed into something that cannot be used; what was before it is in force.";
    CERTIFICATE_EXPIRY = Gauge "tenant_auth_certificate_expiry_timestamp_seconds" "s" ["certificate"]
        "When a certificate in force expires, in seconds since 1970; of several, the first to expire. server: the server's chain (TENANT_AUTH_TLS_CERT_FILE); client_ca: the roots of callers' certificates (TENANT_AUTH_TLS_CLIENT_CA_FILE); database_ca: private roots of the database's certificate (SSL_CERT_FILE, SSL_CERT_DIR), as they were at the start. Absent where there is none.";
    CERTIFICATE_NOT_BEFORE = Gauge "tenant_auth_certificate_not_before_timestamp_seconds" "s" ["certificate"]
        "From when on the same certificate is valid, in seconds since 1970: the difference is its lifetime.";
    TOKEN_EXPIRY = Gauge "tenant_auth_token_expiry_timestamp_seconds" "s" ["token"]
        "When the database token in force expires (claim exp), in seconds since 1970: token reads or writes. Absent where there is no token, it is no JWT, or it names no expiry.";
    TOKEN_ISSUED = Gauge "tenant_auth_token_issued_timestamp_seconds" "s" ["token"]
        "When the same token was issued (claim iat, else nbf), in seconds since 1970. Absent where it does not say.";
    DENIED = Gauge "tenant_auth_denied_entries" "1" ["kind"]
        "Entries of the deny list in force (TENANT_AUTH_DENY_FILE): keys, tenants, hashes.";
    PEPPER_MISSING = Gauge "tenant_auth_pepper_missing" "1" []
        "1 while live keys are stored under a pepper that this replica lacks: keys that it does not find are UNAVAILABLE.";
    BUILD_INFO = Gauge "tenant_auth_build_info" "1" ["version", "commit", "branch", "dirty"]
        "Always 1: which build this is. dirty is true when tracked files differed from the commit.";
    UPTIME = Gauge "tenant_auth_uptime_seconds" "s" []
        "Time since the service started.";
    PROCESS_START = Gauge "tenant_auth_process_start_time_seconds" "s" []
        "When the service started, in seconds since 1970 by the clock of its host.";
    PROCESS_CPU = Counter "tenant_auth_process_cpu_seconds_total" "s" []
        "Processor time spent, in user and system mode (Linux only).";
    PROCESS_MEMORY = Gauge "tenant_auth_process_resident_memory_bytes" "By" []
        "Memory in RAM (Linux only).";
    PROCESS_FDS = Gauge "tenant_auth_process_open_fds" "1" []
        "File descriptors open (Linux only).";
    PROCESS_MAX_FDS = Gauge "tenant_auth_process_max_fds" "1" []
        "File descriptors that may be open (Linux only).";
    PROCESS_THREADS = Gauge "tenant_auth_process_threads" "1" []
        "Threads (Linux only).";
    // What is told.
    LOG_LINES_SUPPRESSED = Counter "tenant_auth_log_lines_left_out_total" "1" []
        "Lines of the log that were counted instead of written, because there were many of their kind (TENANT_AUTH_LOG_BURST).";
    OTLP_SPANS = Counter "tenant_auth_otlp_spans_total" "1" ["outcome"]
        "Spans that ended: exported, dropped (the queue was full) or failed (the collector did not take them). 0 where OTLP is off.";
    OTLP_EXPORTS = Counter "tenant_auth_otlp_exports_total" "1" ["signal", "outcome"]
        "Requests sent to the collector: signal traces or metrics, outcome ok or failed. 0 where OTLP is off.";
}

/// The table as Markdown: `METRICS.md`.
#[must_use]
pub fn render_markdown() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         Made of the table in `src/telemetry/names.rs` by `UPDATE_DOCS=1 cargo test -p tenant-auth-svc --lib telemetry::names`; \
         do not edit.\n\n\
         `GET /metrics` of the port for operators (`TENANT_AUTH_OPS_LISTEN`) tells them in the Prometheus text format; with \
         `TENANT_AUTH_OTLP_ENDPOINT` the same numbers are sent by OTLP each 30 s. No label names a tenant, a key, a session \
         or a caller.\n\n\
         | name | kind | unit | labels | |\n|---|---|---|---|---|\n",
    );
    for metric in ALL {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let unit = match metric.unit {
            "s" => "seconds",
            "By" => "bytes",
            _ => "",
        };
        let row =
            [&format!("`{}`", metric.name), metric.kind.as_str(), unit, &labels.join(", "), metric.help];
        text.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    let bounds: Vec<_> = BUCKET_BOUNDS.iter().map(f64::to_string).collect();
    text.push_str(&format!("\nThe buckets of every histogram, in seconds: {}.\n", bounds.join(", ")));
    text
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn names_follow_the_rules() {
        let mut seen = BTreeSet::new();
        for metric in ALL {
            let MetricDefinition { name, kind, unit, labels, help } = metric;
            assert!(seen.insert(name), "{name}: twice");
            let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            assert!(name.starts_with("tenant_auth_") && plain, "{name}");
            assert_eq!(name.ends_with("_total"), *kind == MetricKind::Counter, "{name}");
            let bare = name.trim_end_matches("_total");
            assert_eq!(bare.ends_with("_seconds"), *unit == "s", "{name}");
            assert_eq!(bare.ends_with("_bytes"), *unit == "By", "{name}");
            assert!(["s", "By", "1"].contains(unit) && help.ends_with('.') && !help.contains('|'), "{name}");
            for label in *labels {
                let personal = ["tenant", "key", "session", "caller"].iter().any(|word| label.contains(word));
                assert!(!personal, "{name}: {label} has no end");
            }
        }
    }

    #[test]
    fn metrics_document_matches_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("METRICS.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, render_markdown()).unwrap();
        }
        let again = "UPDATE_DOCS=1 cargo test -p tenant-auth-svc --lib telemetry::names";
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(written == render_markdown(), "METRICS.md is out of date; to make it anew: {again}");
    }
}
