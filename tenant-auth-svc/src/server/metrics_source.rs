//! Gathers what the metrics tell from those who measure it, when somebody wants to know.

use std::{iter, sync::Arc, time::Duration};

use super::{ChangeFeed, KeyRecordCache, SessionRecordCache, status_source::StatusSources};
use crate::{
    build,
    cache::CacheConfig,
    database::{
        client::DatabaseClient,
        sql::{RecordTable, UnreadableRecords},
    },
    domain::{
        clock::{Moment, UnixMillis},
        guess_limiter::{GuessLimitScope, GuessLimiter},
        store::{Circuit, FailureKind, Lane, Operation},
    },
    grpc::{limiters::Limiters, permits::Limiter, tally::TallyKind},
    jobs::{audit_copy::AuditCopyCounts, usage_reconciler::ReconcileResult},
    middleware::metrics::{CODE_NAMES, RpcMetrics},
    ops::{
        expiry::CredentialExpiry,
        status::{FeedStatus, ServiceStatus, TimeLeft},
    },
    telemetry::{
        logging, names,
        otlp::{ExportOutcomes, OtlpCounts},
        process::ProcessStats,
        snapshot::{LabelValue, MetricsSnapshot, SampleValue, count_to_f64},
    },
    transport::Connections,
    usage_batcher::{EventOutcome, UsageBatcher, UsageTable},
};

/// Codes that are told from the start: what an alert compares has to be there before it grows.
const ALWAYS_REPORTED_CODES: [&str; 4] =
    ["UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL"];

/// Those who measure.
pub(super) struct MetricsSources {
    pub(super) status_sources: StatusSources,
    pub(super) started_at: Moment,
    pub(super) rpc_metrics: Arc<RpcMetrics>,
    pub(super) limiters: Limiters,
    pub(super) connections: Connections,
    pub(super) key_cache: (KeyRecordCache, CacheConfig),
    pub(super) session_cache: (SessionRecordCache, CacheConfig),
    pub(super) guesses: Arc<GuessLimiter>,
    pub(super) feed: Arc<ChangeFeed>,
    pub(super) usage_batcher: UsageBatcher,
    pub(super) reconcile_result: (Arc<ReconcileResult>, Option<Duration>),
    /// `None` where the audit log is copied nowhere.
    pub(super) audit_copy: Option<Arc<AuditCopyCounts>>,
    pub(super) unreadable_records: Arc<UnreadableRecords>,
    pub(super) otlp: Arc<OtlpCounts>,
}

impl MetricsSources {
    /// The numbers of this moment.
    pub(super) fn snapshot(&self) -> MetricsSnapshot {
        let facts = self.status_sources.status();
        let mut told = MetricsSnapshot::default();
        self.add_request_metrics(&mut told);
        self.add_connection_metrics(&mut told);
        self.add_decision_metrics(&mut told);
        self.add_cache_metrics(&mut told, &facts);
        self.add_feed_metrics(&mut told, &facts);
        add_database_metrics(&mut told, &self.status_sources.database_client, &facts);
        let tables = RecordTable::ALL
            .map(|table| (table.as_str(), count_to_f64(self.unreadable_records.count(table))));
        told.push_by_label(&names::UNREADABLE_RECORDS, tables);
        self.add_usage_metrics(&mut told);
        self.add_audit_copy_metrics(&mut told);
        self.add_process_metrics(&mut told, &facts);
        told.push(&names::LOG_LINES_SUPPRESSED, count_to_f64(logging::suppressed_lines()));
        self.add_otlp_metrics(&mut told);
        told
    }

    fn add_request_metrics(&self, told: &mut MetricsSnapshot) {
        let rpcs: Vec<_> = self.rpc_metrics.counters().collect();
        let ended = rpcs.iter().flat_map(|rpc| {
            CODE_NAMES.iter().zip(rpc.ended_by_code).filter_map(|(code, ended)| {
                let ours = rpc.name.starts_with("tenantauth.")
                    && (*code == "OK" || ALWAYS_REPORTED_CODES.contains(code));
                (ended > 0 || ours)
                    .then(|| (labels([rpc.name, code]), SampleValue::Number(count_to_f64(ended))))
            })
        });
        told.push_samples(&names::REQUESTS, ended);
        let took = rpcs.iter().filter(|rpc| rpc.latency.count() > 0);
        told.push_samples(
            &names::REQUEST_DURATION,
            took.map(|rpc| (labels([rpc.name]), SampleValue::Histogram(rpc.latency.clone()))),
        );
        let in_flight = rpcs.iter().map(|rpc| (rpc.name, count_to_f64(rpc.in_flight)));
        told.push_by_label(&names::REQUESTS_IN_FLIGHT, in_flight);
        let pools = self.limiters.named();
        let numbers = |of: fn(&Limiter) -> f64| pools.map(|(pool, places)| (pool, of(places)));
        told.push_by_label(&names::REQUESTS_SHED, numbers(|places| count_to_f64(places.refused())));
        told.push_by_label(&names::PERMITS, numbers(|places| usize_to_f64(places.limit())));
        told.push_by_label(&names::PERMITS_IN_USE, numbers(|places| usize_to_f64(places.taken())));
    }

    fn add_connection_metrics(&self, told: &mut MetricsSnapshot) {
        let counts = self.connections.counts();
        let live = self.connections.open_per_worker().enumerate();
        told.push_by_label(
            &names::CONNECTIONS,
            live.map(|(worker, live)| (worker.to_string(), usize_to_f64(live))),
        );
        told.push(&names::CONNECTIONS_LIMIT, usize_to_f64(self.connections.limit()));
        told.push(&names::CONNECTIONS_OPENED, count_to_f64(counts.opened.get()));
        told.push(&names::CONNECTIONS_REFUSED, count_to_f64(counts.refused.get()));
        let ended = [("stalled", counts.stalled.get()), ("abused", counts.abused.get())];
        told.push_by_label(
            &names::CONNECTIONS_ENDED,
            ended.map(|(reason, count)| (reason, count_to_f64(count))),
        );
        let failed =
            [("error", counts.handshakes_failed.get()), ("timeout", counts.handshakes_timed_out.get())];
        told.push_by_label(
            &names::TLS_HANDSHAKES_FAILED,
            failed.map(|(reason, count)| (reason, count_to_f64(count))),
        );
    }

    fn add_decision_metrics(&self, told: &mut MetricsSnapshot) {
        let count = |what| count_to_f64(self.rpc_metrics.decision_count(what));
        let (mut verdicts, mut sources, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
        for what in TallyKind::all() {
            match what {
                TallyKind::Verdict(verdict) => verdicts.push((verdict.as_str(), count(what))),
                TallyKind::Source(source) => sources.push((source.as_str(), count(what))),
                TallyKind::Failure(kind) => reasons.push((kind.as_str(), count(what))),
                TallyKind::NotTried => reasons.push(("not_tried", count(what))),
            }
        }
        told.push_by_label(&names::VERDICTS, verdicts);
        told.push_by_label(&names::ANSWERS, sources);
        told.push_by_label(&names::UNDECIDED, reasons);
    }

    fn add_cache_metrics(&self, told: &mut MetricsSnapshot, facts: &ServiceStatus) {
        let ((keys, key_room), (sessions, session_room)) = (&self.key_cache, &self.session_cache);
        let pools = [
            ("keys", keys.size(), keys.evicted(), keys.misses(), key_room),
            ("sessions", sessions.size(), sessions.evicted(), sessions.misses(), session_room),
        ];
        let kinds = |pool, (records, absences): (u64, u64)| {
            [("record", records), ("absence", absences)]
                .map(|(kind, count)| (labels([pool, kind]), SampleValue::Number(count_to_f64(count))))
        };
        let entries =
            pools.iter().flat_map(|(pool, size, ..)| kinds(pool, (size.records, size.negative_entries)));
        told.push_samples(&names::CACHE_ENTRIES, entries);
        let room = pools
            .iter()
            .flat_map(|(pool, .., room)| kinds(pool, (room.max_records, room.max_negative_entries)));
        told.push_samples(&names::CACHE_CAPACITY, room);
        told.push_by_label(
            &names::CACHE_MISSES,
            pools.iter().map(|(pool, _, _, misses, _)| (*pool, count_to_f64(*misses))),
        );
        let refused =
            GuessLimitScope::ALL.map(|bound| (bound.as_str(), count_to_f64(self.guesses.refused(bound))));
        told.push_by_label(&names::GUESSES_REFUSED, refused);
        let evicted = pools.iter().flat_map(|(pool, _, evicted, ..)| kinds(pool, *evicted));
        told.push_samples(&names::CACHE_EVICTIONS, evicted);
        told.push_by_label(
            &names::CACHE_LOADS,
            pools.iter().map(|(pool, now, ..)| (*pool, usize_to_f64(now.loads))),
        );
        told.push(&names::CACHE_OLDEST_ANSWER, facts.oldest_answer.unwrap_or_default().as_secs_f64());
        told.push(&names::CACHE_GRACE, facts.grace.in_force.as_secs_f64());
        let coverage = facts.grace.coverage;
        let whole = || facts.grace.in_force.as_secs_f64();
        let left = |left: Option<TimeLeft>| left.map_or_else(whole, TimeLeft::signed_seconds);
        let ends = [
            ("oldest", left(coverage.and_then(|coverage| coverage.oldest_key))),
            ("median", left(coverage.and_then(|coverage| coverage.median_key))),
        ];
        told.push_by_label(&names::CACHE_GRACE_REMAINING, ends);
        told.push(
            &names::CACHE_RECORDS_BEYOND_GRACE,
            count_to_f64(coverage.map_or(0, |coverage| coverage.keys_beyond)),
        );
    }

    fn add_feed_metrics(&self, told: &mut MetricsSnapshot, facts: &ServiceStatus) {
        let lag = match facts.feed {
            FeedStatus::Off => None,
            FeedStatus::NotYetLive => Some(self.uptime(facts)),
            FeedStatus::Live(ago) => Some(ago),
            FeedStatus::SilentSince(at) => Some(facts.now.since(at)),
        };
        told.push(&names::FEED_ENABLED, bool_to_f64(lag.is_some()));
        told.push_optional(&names::FEED_LAG, lag.map(|lag| lag.as_secs_f64()));
        told.push(&names::FEED_EVENTS, count_to_f64(self.feed.events()));
        told.push(&names::FEED_DISCONTINUITIES, count_to_f64(self.feed.discontinuities()));
        told.push(&names::HELD_REVOCATIONS, usize_to_f64(self.feed.held_revocations().len()));
        told.push(&names::WATCH_SUBSCRIBERS, usize_to_f64(self.feed.hub().subscriber_count()));
        told.push(&names::WATCH_SUBSCRIBERS_DROPPED, count_to_f64(self.feed.hub().dropped_subscribers()));
    }

    fn add_usage_metrics(&self, told: &mut MetricsSnapshot) {
        let counts = self.usage_batcher.counts();
        told.push(&names::USAGE_QUEUE, usize_to_f64(self.usage_batcher.queued_events()));
        told.push(&names::USAGE_QUEUE_CAPACITY, usize_to_f64(self.usage_batcher.capacity()));
        let events = EventOutcome::ALL.map(|fate| (fate.as_str(), count_to_f64(counts.events(fate))));
        told.push_by_label(&names::USAGE_EVENTS, events);
        let rows = UsageTable::ALL.map(|table| (table.as_str(), count_to_f64(counts.rows(table))));
        told.push_by_label(&names::USAGE_ROWS, rows);
        told.push_samples(
            &names::USAGE_FLUSH_DURATION,
            [(Vec::new(), SampleValue::Histogram(counts.transaction_latency()))],
        );
        let (reconciled, interval) = &self.reconcile_result;
        told.push(&names::USAGE_RECONCILE_INTERVAL, interval.unwrap_or_default().as_secs_f64());
        told.push(&names::USAGE_TOTALS_DIFFERING, count_to_f64(reconciled.differing_totals()));
        told.push(&names::USAGE_RECONCILED_AT, unix_seconds(reconciled.finished_at()));
    }

    /// All are there where nothing is copied: a sum over replicas needs no case for those that copy nothing.
    fn add_audit_copy_metrics(&self, told: &mut MetricsSnapshot) {
        let of = |count: fn(&AuditCopyCounts) -> u64| self.audit_copy.as_deref().map_or(0, count);
        told.push(&names::AUDIT_COPIED, count_to_f64(of(AuditCopyCounts::entries)));
        told.push(&names::AUDIT_COPY_FAILURES, count_to_f64(of(AuditCopyCounts::failures)));
        let complete_at = self.audit_copy.as_ref().map(|counts| counts.complete_at());
        told.push(&names::AUDIT_COPY_COMPLETE_AT, unix_seconds(complete_at.unwrap_or(UnixMillis(0))));
    }

    fn add_process_metrics(&self, told: &mut MetricsSnapshot, facts: &ServiceStatus) {
        told.push(&names::READY, bool_to_f64(facts.phase.is_ready()));
        let refused = [
            ("callers", facts.files.callers_refused),
            ("certificates", facts.files.certificates_refused),
            ("deny_list", facts.files.deny_list_refused),
            ("database_token", facts.files.database_token_refused),
        ];
        told.push_by_label(
            &names::RELOAD_REFUSED,
            refused.map(|(file, refused)| (file, bool_to_f64(refused))),
        );
        add_expiry_metrics(told, facts);
        let denied = self.status_sources.denied.counts();
        let denied = [("keys", denied.keys), ("tenants", denied.tenants), ("hashes", denied.hashes)];
        told.push_by_label(&names::DENIED, denied.map(|(kind, count)| (kind, usize_to_f64(count))));
        told.push(&names::PEPPER_MISSING, bool_to_f64(facts.pepper_missing.is_some()));
        let dirty = if build::THIS.dirty { "true" } else { "false" };
        let build = labels([build::THIS.version, build::THIS.commit, build::THIS.branch, dirty]);
        told.push_samples(&names::BUILD_INFO, [(build, SampleValue::Number(1.0))]);
        told.push(&names::UPTIME, self.uptime(facts).as_secs_f64());
        told.push(&names::PROCESS_START, unix_seconds(self.started_at.wall));
        let process = ProcessStats::read();
        told.push_optional(&names::PROCESS_CPU, process.cpu_seconds);
        told.push_optional(&names::PROCESS_MEMORY, process.resident_bytes);
        told.push_optional(&names::PROCESS_FDS, process.open_fds);
        told.push_optional(&names::PROCESS_MAX_FDS, process.max_fds);
        told.push_optional(&names::PROCESS_THREADS, process.threads);
    }

    fn add_otlp_metrics(&self, told: &mut MetricsSnapshot) {
        let spans = &self.otlp.spans;
        let outcomes =
            [("exported", &spans.exported), ("dropped", &spans.dropped), ("failed", &spans.failed)];
        told.push_by_label(
            &names::OTLP_SPANS,
            outcomes.map(|(outcome, count)| (outcome, count_to_f64(count.get()))),
        );
        let signal = |signal, outcomes: &ExportOutcomes| {
            [("ok", outcomes.ok.get()), ("failed", outcomes.failed.get())]
                .map(|(outcome, count)| (labels([signal, outcome]), SampleValue::Number(count_to_f64(count))))
        };
        let exports = signal("traces", &self.otlp.traces).into_iter();
        told.push_samples(&names::OTLP_EXPORTS, exports.chain(signal("metrics", &self.otlp.metrics)));
    }

    fn uptime(&self, facts: &ServiceStatus) -> Duration {
        facts.now.since(self.started_at)
    }
}

fn add_expiry_metrics(told: &mut MetricsSnapshot, facts: &ServiceStatus) {
    told.push_by_label(
        &names::CERTIFICATE_EXPIRY,
        expiry_dates(facts, false, |expiry| Some(expiry.not_after)),
    );
    told.push_by_label(
        &names::CERTIFICATE_NOT_BEFORE,
        expiry_dates(facts, false, |expiry| expiry.not_before),
    );
    told.push_by_label(&names::TOKEN_EXPIRY, expiry_dates(facts, true, |expiry| Some(expiry.not_after)));
    told.push_by_label(&names::TOKEN_ISSUED, expiry_dates(facts, true, |expiry| expiry.not_before));
}

/// Dates of certificates or of tokens, in seconds since 1970.
fn expiry_dates(
    facts: &ServiceStatus,
    tokens: bool,
    date: fn(&CredentialExpiry) -> Option<UnixMillis>,
) -> impl Iterator<Item = (&'static str, f64)> {
    let some = facts.expiries.iter().filter(move |expiry| expiry.kind.is_token() == tokens);
    some.filter_map(move |expiry| Some((expiry.kind.as_str(), millis_to_seconds(date(expiry)?.0))))
}

fn add_database_metrics(told: &mut MetricsSnapshot, hop: &DatabaseClient, facts: &ServiceStatus) {
    let (breaker, observed, bounded) = (hop.breaker(), hop.observer(), hop.bulkhead());
    let writes = facts.writes;
    let tried = [(Operation::Read, facts.reads), (Operation::Write, writes.condition)];
    let tried = tried.into_iter().filter_map(|(operation, condition)| Some((operation.as_str(), condition?)));
    let up = tried.clone().map(|(operation, condition)| (operation, bool_to_f64(condition.is_healthy())));
    told.push_by_label(&names::DATABASE_UP, up);
    let last =
        tried.map(|(operation, condition)| (operation, millis_to_seconds(condition.last_call_at.wall.0)));
    told.push_by_label(&names::DATABASE_LAST_TRIED, last);
    let stalled = writes.condition.is_some_and(|last| last.failure == Some(FailureKind::TimedOut));
    told.push(&names::DATABASE_WRITES_STALLED, bool_to_f64(stalled));
    let waiting = Lane::WRITING.map(|lane| (lane.as_str(), usize_to_f64(hop.write_queue().queued(lane))));
    told.push_by_label(&names::DATABASE_WRITES_WAITING, waiting);
    let oldest = writes.under_way_for.unwrap_or_default();
    told.push(&names::DATABASE_WRITE_IN_FLIGHT_SECONDS, oldest.as_secs_f64());
    told.push(&names::DATABASE_TRUSTED, bool_to_f64(facts.distrust.is_none()));
    told.push(&names::DATABASE_STANDSTILL, facts.standstill.unwrap_or_default().as_secs_f64());
    told.push(&names::SCHEDULER_LAG, facts.scheduler_lag.as_secs_f64());
    told.push_optional(&names::CLOCK_OFFSET, facts.clock_offset.map(millis_to_seconds));
    let outcomes = || iter::once(None).chain(FailureKind::ALL.map(Some));
    let mut times = Vec::new();
    for lane in Lane::ALL {
        for failure in outcomes() {
            let took = observed.latency(lane, failure);
            if took.count() > 0 {
                let outcome = failure.map_or("ok", FailureKind::as_str);
                times.push((labels([lane.as_str(), outcome]), SampleValue::Histogram(took)));
            }
        }
    }
    told.push_samples(&names::DATABASE_CALL_DURATION, times);
    let failures = Operation::ALL.into_iter().flat_map(|operation| {
        FailureKind::ALL.map(|kind| {
            let refused = if kind == FailureKind::CircuitOpen { breaker.refused_count(operation) } else { 0 };
            let count = observed.failure_count(operation, kind) + refused;
            (labels([operation.as_str(), kind.as_str()]), SampleValue::Number(count_to_f64(count)))
        })
    });
    told.push_samples(&names::DATABASE_FAILURES, failures);
    told.push(&names::DATABASE_RETRIES, count_to_f64(hop.retry_layer().retries()));
    told.push_by_label(
        &names::DATABASE_CALLS,
        Lane::ALL.map(|lane| (lane.as_str(), usize_to_f64(bounded.in_flight(lane)))),
    );
    let limits = Lane::ALL.map(|lane| (lane.as_str(), usize_to_f64(bounded.limit(lane))));
    told.push_by_label(&names::DATABASE_CALLS_LIMIT, limits);
    let open = Circuit::ALL.into_iter().zip(facts.open_circuits);
    told.push_by_label(
        &names::BREAKER_OPEN,
        open.map(|(circuit, open)| (circuit.as_str(), bool_to_f64(open))),
    );
    let opened = Circuit::ALL.map(|circuit| (circuit.as_str(), count_to_f64(breaker.open_count(circuit))));
    told.push_by_label(&names::BREAKER_OPENED, opened);
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
