//! Collects the metrics from their sources when they are read.

mod database;
mod limits;
mod reading;
mod rpcs;

use std::{iter, sync::Arc, time::Duration};

use super::status_source::StatusSources;
use crate::{
    build,
    cache::CacheConfig,
    database::sql::{RecordTable, UnreadableRecords},
    domain::{
        clock::{Moment, UnixMillis},
        leak::Leaks,
        unknown_lookup_limiter::{UnknownLookupLimitScope, UnknownLookupLimiter},
    },
    forward::counts::DoorCounts,
    grpc::limiters::Limiters,
    jobs::{audit_copy::AuditCopyCounts, usage_reconciler::ReconcileResult},
    middleware::metrics::RpcMetrics,
    ops::{
        expiry::CredentialExpiry,
        status::{FeedStatus, ServiceStatus, TimeLeft},
    },
    service_types::{AllCaches, ChangeFeed, KeyRecordCache, ServiceStore, SessionRecordCache},
    telemetry::{
        logging,
        names::{self, MetricDefinition},
        otlp::{ExportOutcomes, OtlpCounts},
        process::ProcessStats,
        snapshot::{LabelValue, MetricsSnapshot, SampleValue, count_to_f64},
    },
    transport::Connections,
    usage_batcher::{EventOutcome, UsageBatcher, UsageTable},
};

/// The names under which metrics are exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetricsFormat {
    /// The names of Prometheus.
    Prometheus,
    /// The names of OpenTelemetry, where it defines any.
    Otlp,
}

/// The sources of the metrics.
pub(super) struct MetricsSources {
    pub(super) status_sources: StatusSources,
    pub(super) started_at: Moment,
    pub(super) rpc_metrics: Arc<RpcMetrics>,
    pub(super) limiters: Limiters,
    pub(super) connections: Connections,
    pub(super) key_cache: (KeyRecordCache, CacheConfig),
    pub(super) session_cache: (SessionRecordCache, CacheConfig),
    pub(super) unknown_lookup_limiter: Arc<UnknownLookupLimiter>,
    pub(super) feed: Arc<ChangeFeed>,
    pub(super) usage_batcher: UsageBatcher,
    pub(super) reconcile_result: (Arc<ReconcileResult>, Option<Duration>),
    /// `None` if the audit log is not copied.
    pub(super) audit_copy: Option<Arc<AuditCopyCounts>>,
    pub(super) unreadable_records: Arc<UnreadableRecords>,
    pub(super) leaks: Arc<Leaks<ServiceStore, AllCaches>>,
    pub(super) door_counts: Arc<DoorCounts>,
    pub(super) otlp: Arc<OtlpCounts>,
}

impl MetricsSources {
    /// Returns the current values of all metrics.
    pub(super) fn snapshot(&self, format: MetricsFormat) -> MetricsSnapshot {
        let status = self.status_sources.status();
        let mut snapshot = MetricsSnapshot::default();
        self.add_request_metrics(&mut snapshot, format);
        self.add_connection_metrics(&mut snapshot);
        self.add_decision_metrics(&mut snapshot);
        self.add_cache_metrics(&mut snapshot, &status);
        self.add_feed_metrics(&mut snapshot, &status);
        database::add_database_metrics(&mut snapshot, &self.status_sources.database_client, &status, format);
        let tables = RecordTable::ALL
            .map(|table| (table.as_str(), count_to_f64(self.unreadable_records.count(table))));
        snapshot.push_by_label(&names::UNREADABLE_RECORDS, tables);
        // From the start: an alert needs the zero.
        let leaks = self.leaks.counts().map(|(effect, count)| (effect, count_to_f64(count)));
        snapshot.push_by_label(&names::LEAK_REPORTS, leaks);
        limits::add_limit_metrics(&mut snapshot, &self.status_sources.limits, &status);
        self.add_front_door_metrics(&mut snapshot);
        self.add_usage_metrics(&mut snapshot);
        self.add_audit_copy_metrics(&mut snapshot);
        self.add_process_metrics(&mut snapshot, &status);
        snapshot.push(&names::LOG_LINES_SUPPRESSED, count_to_f64(logging::suppressed_lines()));
        self.add_otlp_metrics(&mut snapshot);
        snapshot
    }

    fn add_connection_metrics(&self, snapshot: &mut MetricsSnapshot) {
        let counts = self.connections.counts();
        let live = self.connections.open_per_worker().enumerate();
        snapshot.push_by_label(
            &names::CONNECTIONS,
            live.map(|(worker, live)| (worker.to_string(), usize_to_f64(live))),
        );
        snapshot.push(&names::CONNECTIONS_LIMIT, usize_to_f64(self.connections.limit()));
        snapshot.push(&names::CONNECTIONS_OPENED, count_to_f64(counts.opened.get()));
        snapshot.push(&names::CONNECTIONS_REFUSED, count_to_f64(counts.refused.get()));
        let ended = [("stalled", counts.stalled.get()), ("abused", counts.abused.get())];
        push_nonzero(snapshot, &names::CONNECTIONS_ENDED, ended);
        let failed =
            [("error", counts.handshakes_failed.get()), ("timeout", counts.handshakes_timed_out.get())];
        snapshot.push_by_label(
            &names::TLS_HANDSHAKES_FAILED,
            failed.map(|(reason, count)| (reason, count_to_f64(count))),
        );
    }

    fn add_cache_metrics(&self, snapshot: &mut MetricsSnapshot, status: &ServiceStatus) {
        let ((keys, key_room), (sessions, session_room)) = (&self.key_cache, &self.session_cache);
        let pools = [
            ("keys", keys.size(), keys.evicted(), keys.misses(), key_room),
            ("sessions", sessions.size(), sessions.evicted(), sessions.misses(), session_room),
        ];
        let kinds = |pool, (records, absences): (u64, u64)| {
            [("record", records), ("negative", absences)]
                .map(|(kind, count)| (labels([pool, kind]), SampleValue::Number(count_to_f64(count))))
        };
        let entries =
            pools.iter().flat_map(|(pool, size, ..)| kinds(pool, (size.records, size.negative_entries)));
        snapshot.push_samples(&names::CACHE_ENTRIES, entries);
        let room = pools
            .iter()
            .flat_map(|(pool, .., room)| kinds(pool, (room.max_records, room.max_negative_entries)));
        snapshot.push_samples(&names::CACHE_CAPACITY, room);
        push_nonzero(
            snapshot,
            &names::CACHE_MISSES,
            pools.iter().map(|(pool, _, _, misses, _)| (*pool, *misses)),
        );
        let refused = UnknownLookupLimitScope::ALL
            .map(|limit| (limit.as_str(), self.unknown_lookup_limiter.refused(limit)));
        push_nonzero(snapshot, &names::UNKNOWN_LOOKUPS_REFUSED, refused);
        // Records from the start: an alert needs the zero.
        let evicted = pools.iter().flat_map(|(pool, _, (records, negative), ..)| {
            let negative = (*negative > 0).then_some((labels([pool, "negative"]), *negative));
            iter::once((labels([pool, "record"]), *records)).chain(negative)
        });
        push_counts(snapshot, &names::CACHE_EVICTIONS, evicted);
        snapshot.push_by_label(
            &names::CACHE_LOADS,
            pools.iter().map(|(pool, now, ..)| (*pool, usize_to_f64(now.loads))),
        );
        snapshot
            .push(&names::CACHE_OLDEST_ANSWER_AGE, status.oldest_answer.unwrap_or_default().as_secs_f64());
        snapshot.push(&names::CACHE_GRACE, status.grace.in_force.as_secs_f64());
        let coverage = status.grace.coverage;
        let whole = || status.grace.in_force.as_secs_f64();
        let left = |left: Option<TimeLeft>| left.map_or_else(whole, TimeLeft::signed_seconds);
        let ends = [
            ("oldest", left(coverage.and_then(|coverage| coverage.oldest_key))),
            ("median", left(coverage.and_then(|coverage| coverage.median_key))),
        ];
        snapshot.push_by_label(&names::CACHE_GRACE_REMAINING, ends);
        snapshot.push(
            &names::CACHE_RECORDS_BEYOND_GRACE,
            count_to_f64(coverage.map_or(0, |coverage| coverage.keys_beyond)),
        );
    }

    fn add_feed_metrics(&self, snapshot: &mut MetricsSnapshot, status: &ServiceStatus) {
        let lag = match status.feed {
            FeedStatus::Off => None,
            FeedStatus::NotYetLive => Some(self.uptime(status)),
            FeedStatus::Live(ago) => Some(ago),
            FeedStatus::SilentSince(at) => Some(status.now.since(at)),
        };
        snapshot.push(&names::FEED_ENABLED, bool_to_f64(lag.is_some()));
        snapshot.push_optional(&names::FEED_LAG, lag.map(|lag| lag.as_secs_f64()));
        snapshot.push(&names::FEED_EVENTS, count_to_f64(self.feed.events()));
        snapshot.push(&names::FEED_DISCONTINUITIES, count_to_f64(self.feed.discontinuities()));
        snapshot.push(&names::RETAINED_REVOCATIONS, usize_to_f64(self.feed.retained_revocations().len()));
        snapshot.push(&names::WATCH_SUBSCRIBERS, usize_to_f64(self.feed.hub().subscriber_count()));
        snapshot.push(&names::WATCH_SUBSCRIBERS_DROPPED, count_to_f64(self.feed.hub().dropped_subscribers()));
    }

    fn add_usage_metrics(&self, snapshot: &mut MetricsSnapshot) {
        let counts = self.usage_batcher.counts();
        snapshot.push(&names::USAGE_QUEUE, usize_to_f64(self.usage_batcher.queued_events()));
        snapshot.push(&names::USAGE_QUEUE_CAPACITY, usize_to_f64(self.usage_batcher.capacity()));
        let events = EventOutcome::ALL.map(|outcome| (outcome.as_str(), counts.events(outcome)));
        push_nonzero(snapshot, &names::USAGE_EVENTS, events);
        let rows = UsageTable::ALL.map(|table| (table.as_str(), counts.rows(table)));
        push_nonzero(snapshot, &names::USAGE_ROWS, rows);
        snapshot.push_samples(
            &names::USAGE_FLUSH_DURATION,
            [(Vec::new(), SampleValue::Histogram(counts.transaction_latency()))],
        );
        let (reconciled, interval) = &self.reconcile_result;
        snapshot.push(&names::USAGE_RECONCILE_INTERVAL, interval.unwrap_or_default().as_secs_f64());
        snapshot.push(&names::USAGE_TOTALS_MISMATCHED, count_to_f64(reconciled.differing_totals()));
        snapshot.push(&names::USAGE_LAST_RECONCILED_AT, unix_seconds(reconciled.finished_at()));
    }

    /// All series exist even if nothing is copied, so that a sum over replicas needs no special case.
    fn add_audit_copy_metrics(&self, snapshot: &mut MetricsSnapshot) {
        let of = |count: fn(&AuditCopyCounts) -> u64| self.audit_copy.as_deref().map_or(0, count);
        snapshot.push(&names::AUDIT_ENTRIES_COPIED, count_to_f64(of(AuditCopyCounts::entries)));
        snapshot.push(&names::AUDIT_COPY_FAILURES, count_to_f64(of(AuditCopyCounts::failures)));
        let complete_at = self.audit_copy.as_ref().map(|counts| counts.complete_at());
        snapshot.push(&names::AUDIT_COPY_COMPLETE_AT, unix_seconds(complete_at.unwrap_or(UnixMillis(0))));
    }

    fn add_process_metrics(&self, snapshot: &mut MetricsSnapshot, status: &ServiceStatus) {
        snapshot.push(&names::READY, bool_to_f64(status.phase.is_ready()));
        let refused = [
            ("callers", status.files.callers_refused),
            ("certificates", status.files.certificates_refused),
            ("deny_list", status.files.deny_list_refused),
            ("principal_keys", status.files.signing_keys_refused),
            ("database_token", status.files.database_token_refused),
        ];
        snapshot.push_by_label(
            &names::RELOAD_FAILED,
            refused.map(|(file, refused)| (file, bool_to_f64(refused))),
        );
        add_expiry_metrics(snapshot, status);
        let denied = self.status_sources.denied.counts();
        let denied = [("keys", denied.keys), ("tenants", denied.tenants), ("hashes", denied.hashes)];
        snapshot.push_by_label(
            &names::DENY_LIST_ENTRIES,
            denied.map(|(kind, count)| (kind, usize_to_f64(count))),
        );
        snapshot.push(&names::PEPPER_MISSING, bool_to_f64(status.pepper_missing.is_some()));
        let dirty = if build::THIS.dirty { "true" } else { "false" };
        let build = labels([build::THIS.version, build::THIS.commit, build::THIS.branch, dirty]);
        snapshot.push_samples(&names::BUILD_INFO, [(build, SampleValue::Number(1.0))]);
        snapshot.push(&names::PROCESS_START, unix_seconds(self.started_at.wall));
        let process = ProcessStats::read();
        snapshot.push_optional(&names::PROCESS_CPU, process.cpu_seconds);
        snapshot.push_optional(&names::PROCESS_MEMORY, process.resident_bytes);
        snapshot.push_optional(&names::PROCESS_FDS, process.open_fds);
        snapshot.push_optional(&names::PROCESS_MAX_FDS, process.max_fds);
        snapshot.push_optional(&names::PROCESS_THREADS, process.threads);
    }

    fn add_otlp_metrics(&self, snapshot: &mut MetricsSnapshot) {
        let spans = &self.otlp.spans;
        // Lost spans from the start: an alert needs the zero.
        let exported = Some(("exported", spans.exported.get())).filter(|(_, count)| *count > 0);
        let lost = [("dropped", spans.dropped.get()), ("failed", spans.failed.get())];
        snapshot.push_by_label(
            &names::OTLP_SPANS,
            exported.into_iter().chain(lost).map(|(outcome, count)| (outcome, count_to_f64(count))),
        );
        let signal = |signal, outcomes: &ExportOutcomes| {
            [("ok", outcomes.ok.get()), ("failed", outcomes.failed.get())]
                .map(|(outcome, count)| (labels([signal, outcome]), count))
        };
        let exports = signal("traces", &self.otlp.traces).into_iter();
        let exports = exports.chain(signal("metrics", &self.otlp.metrics));
        push_counts(snapshot, &names::OTLP_EXPORTS, exports.filter(|(_, count)| *count > 0));
    }

    fn uptime(&self, status: &ServiceStatus) -> Duration {
        status.now.since(self.started_at)
    }
}

fn add_expiry_metrics(snapshot: &mut MetricsSnapshot, status: &ServiceStatus) {
    snapshot.push_by_label(
        &names::CERTIFICATE_EXPIRY,
        expiry_dates(status, false, |expiry| Some(expiry.not_after)),
    );
    snapshot.push_by_label(
        &names::CERTIFICATE_NOT_BEFORE,
        expiry_dates(status, false, |expiry| expiry.not_before),
    );
    snapshot.push_by_label(&names::TOKEN_EXPIRY, expiry_dates(status, true, |expiry| Some(expiry.not_after)));
    snapshot.push_by_label(&names::TOKEN_ISSUED, expiry_dates(status, true, |expiry| expiry.not_before));
}

/// Dates of certificates or of tokens, in seconds since 1970.
fn expiry_dates(
    status: &ServiceStatus,
    tokens: bool,
    date: fn(&CredentialExpiry) -> Option<UnixMillis>,
) -> impl Iterator<Item = (&'static str, f64)> {
    let some = status.expiries.iter().filter(move |expiry| expiry.kind.is_token() == tokens);
    some.filter_map(move |expiry| Some((expiry.kind.as_str(), millis_to_seconds(date(expiry)?.0))))
}

/// Adds counts with any labels.
fn push_counts(
    snapshot: &mut MetricsSnapshot,
    metric: &'static MetricDefinition,
    counts: impl IntoIterator<Item = (Vec<LabelValue>, u64)>,
) {
    let counts = counts.into_iter().map(|(labels, count)| (labels, SampleValue::Number(count_to_f64(count))));
    snapshot.push_samples(metric, counts);
}

/// Adds the counts of a metric with one label, without those that are 0.
fn push_nonzero(
    snapshot: &mut MetricsSnapshot,
    metric: &'static MetricDefinition,
    counts: impl IntoIterator<Item = (&'static str, u64)>,
) {
    let counts = counts.into_iter().filter(|(_, count)| *count > 0);
    push_counts(snapshot, metric, counts.map(|(label, count)| (labels([label]), count)));
}

fn labels<const N: usize>(labels: [&'static str; N]) -> Vec<LabelValue> {
    labels.map(LabelValue::from).into()
}

fn bool_to_f64(what: bool) -> f64 {
    f64::from(u8::from(what))
}

/// Whole seconds since 1970.
fn unix_seconds(at: UnixMillis) -> f64 {
    u32::try_from(at.0 / 1_000).map_or(0.0, f64::from)
}

fn millis_to_seconds(millis: i64) -> f64 {
    let length = Duration::from_millis(millis.unsigned_abs()).as_secs_f64();
    if millis < 0 { -length } else { length }
}

fn usize_to_f64(count: usize) -> f64 {
    count_to_f64(count as u64)
}
