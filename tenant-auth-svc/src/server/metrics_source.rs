//! Gathers what the metrics tell from those who measure it, when somebody wants to know.

use std::{iter, sync::Arc, time::Duration};

use super::{ChangeFeed, Hop, Memory, SessionMemory, status_source::Witnesses};
use crate::{
    build,
    cache::CacheConfig,
    database::sql::{RecordTable, UnreadableRecords},
    domain::{
        clock::{Moment, UnixMillis},
        guesses::{GuessBound, Guesses},
        store::{Circuit, FailureKind, Lane, Operation},
    },
    grpc::{limiters::Pools, permits::Places, tally::Tallied},
    jobs::{audit_copy::AuditCopyCounts, usage_reconciler::Reconciled},
    middleware::metrics::{CODES, Rpcs},
    ops::{
        expiry::Expiry,
        facts::{Facts, Feed, Left},
    },
    telemetry::{
        logging, names,
        otlp::{OtlpCounts, Outcomes},
        process::Process,
        snapshot::{Label, Snapshot, Value, float},
    },
    transport::Connections,
    usage_batcher::{Fate, Grouped, Table},
};

/// Codes that are told from the start: what an alert compares has to be there before it grows.
const BAD: [&str; 4] = ["UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL"];

/// Those who measure.
pub(super) struct Meters {
    pub(super) witnesses: Witnesses,
    pub(super) began: Moment,
    pub(super) rpcs: Arc<Rpcs>,
    pub(super) pools: Pools,
    pub(super) connections: Connections,
    pub(super) keys: (Memory, CacheConfig),
    pub(super) sessions: (SessionMemory, CacheConfig),
    pub(super) guesses: Arc<Guesses>,
    pub(super) feed: Arc<ChangeFeed>,
    pub(super) usage: Grouped,
    pub(super) reconciled: (Arc<Reconciled>, Option<Duration>),
    /// `None` where the audit log is copied nowhere.
    pub(super) audit: Option<Arc<AuditCopyCounts>>,
    pub(super) unreadable: Arc<UnreadableRecords>,
    pub(super) otlp: Arc<OtlpCounts>,
}

impl Meters {
    /// The numbers of this moment.
    pub(super) fn snapshot(&self) -> Snapshot {
        let facts = self.witnesses.facts();
        let mut told = Snapshot::default();
        self.requests(&mut told);
        self.connections(&mut told);
        self.decisions(&mut told);
        self.memory(&mut told, &facts);
        self.feed(&mut told, &facts);
        database(&mut told, &self.witnesses.hop, &facts);
        let tables = RecordTable::ALL.map(|table| (table.as_str(), float(self.unreadable.count(table))));
        told.numbers(&names::UNREADABLE_RECORDS, tables);
        self.usage(&mut told);
        self.audit(&mut told);
        self.process(&mut told, &facts);
        told.number(&names::LOG_LINES_LEFT_OUT, float(logging::left_out()));
        self.otlp(&mut told);
        told
    }

    fn requests(&self, told: &mut Snapshot) {
        let rpcs: Vec<_> = self.rpcs.numbers().collect();
        let ended = rpcs.iter().flat_map(|rpc| {
            CODES.iter().zip(rpc.ended).filter_map(|(code, ended)| {
                let ours = rpc.name.starts_with("tenantauth.") && (*code == "OK" || BAD.contains(code));
                (ended > 0 || ours).then(|| (labels([rpc.name, code]), Value::Number(float(ended))))
            })
        });
        told.tell(&names::REQUESTS, ended);
        let took = rpcs.iter().filter(|rpc| rpc.took.count() > 0);
        told.tell(
            &names::REQUEST_DURATION,
            took.map(|rpc| (labels([rpc.name]), Value::Times(rpc.took.clone()))),
        );
        let in_flight = rpcs.iter().map(|rpc| (rpc.name, float(rpc.in_flight)));
        told.numbers(&names::REQUESTS_IN_FLIGHT, in_flight);
        let pools = self.pools.named();
        let numbers = |of: fn(&Places) -> f64| pools.map(|(pool, places)| (pool, of(places)));
        told.numbers(&names::REQUESTS_SHED, numbers(|places| float(places.refused())));
        told.numbers(&names::PLACES, numbers(|places| size(places.limit())));
        told.numbers(&names::PLACES_TAKEN, numbers(|places| size(places.taken())));
    }

    fn connections(&self, told: &mut Snapshot) {
        let counts = self.connections.counts();
        let live = self.connections.live().enumerate();
        told.numbers(&names::CONNECTIONS, live.map(|(worker, live)| (worker.to_string(), size(live))));
        told.number(&names::CONNECTIONS_LIMIT, size(self.connections.limit()));
        told.number(&names::CONNECTIONS_OPENED, float(counts.opened.get()));
        told.number(&names::CONNECTIONS_REFUSED, float(counts.refused.get()));
        let ended = [("stalled", counts.stalled.get()), ("abused", counts.abused.get())];
        told.numbers(&names::CONNECTIONS_ENDED, ended.map(|(reason, count)| (reason, float(count))));
        let failed =
            [("error", counts.handshakes_failed.get()), ("timeout", counts.handshakes_timed_out.get())];
        told.numbers(&names::TLS_HANDSHAKES_FAILED, failed.map(|(reason, count)| (reason, float(count))));
    }

    fn decisions(&self, told: &mut Snapshot) {
        let count = |what| float(self.rpcs.tallied(what));
        let (mut verdicts, mut sources, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
        for what in Tallied::all() {
            match what {
                Tallied::Verdict(verdict) => verdicts.push((verdict.as_str(), count(what))),
                Tallied::Source(source) => sources.push((source.as_str(), count(what))),
                Tallied::Failure(kind) => reasons.push((kind.as_str(), count(what))),
                Tallied::NotTried => reasons.push(("not_tried", count(what))),
            }
        }
        told.numbers(&names::VERDICTS, verdicts);
        told.numbers(&names::ANSWERS, sources);
        told.numbers(&names::UNDECIDED, reasons);
    }

    fn memory(&self, told: &mut Snapshot, facts: &Facts) {
        let ((keys, key_room), (sessions, session_room)) = (&self.keys, &self.sessions);
        let pools = [
            ("keys", keys.size(), keys.evicted(), keys.misses(), key_room),
            ("sessions", sessions.size(), sessions.evicted(), sessions.misses(), session_room),
        ];
        let kinds = |pool, (records, absences): (u64, u64)| {
            [("record", records), ("absence", absences)]
                .map(|(kind, count)| (labels([pool, kind]), Value::Number(float(count))))
        };
        let entries = pools.iter().flat_map(|(pool, size, ..)| kinds(pool, (size.records, size.absences)));
        told.tell(&names::CACHE_ENTRIES, entries);
        let room = pools.iter().flat_map(|(pool, .., room)| kinds(pool, (room.keys, room.absences)));
        told.tell(&names::CACHE_CAPACITY, room);
        told.numbers(
            &names::CACHE_MISSES,
            pools.iter().map(|(pool, _, _, misses, _)| (*pool, float(*misses))),
        );
        let refused = GuessBound::ALL.map(|bound| (bound.as_str(), float(self.guesses.refused(bound))));
        told.numbers(&names::GUESSES_REFUSED, refused);
        let evicted = pools.iter().flat_map(|(pool, _, evicted, ..)| kinds(pool, *evicted));
        told.tell(&names::CACHE_EVICTIONS, evicted);
        told.numbers(&names::CACHE_LOADS, pools.iter().map(|(pool, now, ..)| (*pool, size(now.loads))));
        told.number(&names::CACHE_OLDEST, facts.oldest_answer.unwrap_or_default().as_secs_f64());
        told.number(&names::CACHE_GRACE, facts.grace.in_force.as_secs_f64());
        let coverage = facts.grace.coverage;
        let whole = || facts.grace.in_force.as_secs_f64();
        let left = |left: Option<Left>| left.map_or_else(whole, Left::seconds);
        let ends = [
            ("oldest", left(coverage.and_then(|coverage| coverage.oldest))),
            ("median", left(coverage.and_then(|coverage| coverage.median))),
        ];
        told.numbers(&names::CACHE_GRACE_ENDS, ends);
        told.number(&names::CACHE_BEYOND_GRACE, float(coverage.map_or(0, |coverage| coverage.beyond)));
    }

    fn feed(&self, told: &mut Snapshot, facts: &Facts) {
        let lag = match facts.feed {
            Feed::Off => None,
            Feed::NotHeard => Some(self.uptime(facts)),
            Feed::Heard(ago) => Some(ago),
            Feed::SilentSince(at) => Some(facts.now.since(at)),
        };
        told.number(&names::FEED_ENABLED, truth(lag.is_some()));
        told.perhaps(&names::FEED_LAG, lag.map(|lag| lag.as_secs_f64()));
        told.number(&names::FEED_EVENTS, float(self.feed.events()));
        told.number(&names::FEED_START_OVERS, float(self.feed.start_overs()));
        told.number(&names::HELD_ENDS, size(self.feed.held().len()));
        told.number(&names::WATCH_SUBSCRIBERS, size(self.feed.hub().subscribers()));
        told.number(&names::WATCH_CUT_OFF, float(self.feed.hub().cut_off()));
    }

    fn usage(&self, told: &mut Snapshot) {
        let counts = self.usage.counts();
        told.number(&names::USAGE_QUEUE, size(self.usage.waiting()));
        told.number(&names::USAGE_QUEUE_CAPACITY, size(self.usage.room()));
        let events = Fate::ALL.map(|fate| (fate.as_str(), float(counts.events(fate))));
        told.numbers(&names::USAGE_EVENTS, events);
        let rows = Table::ALL.map(|table| (table.as_str(), float(counts.rows(table))));
        told.numbers(&names::USAGE_ROWS, rows);
        told.tell(&names::USAGE_FLUSH_DURATION, [(Vec::new(), Value::Times(counts.flushes()))]);
        let (reconciled, interval) = &self.reconciled;
        told.number(&names::USAGE_RECONCILE_INTERVAL, interval.unwrap_or_default().as_secs_f64());
        told.number(&names::USAGE_TOTALS_DIFFERING, float(reconciled.differing()));
        told.number(&names::USAGE_RECONCILED, unix_seconds(reconciled.finished_at()));
    }

    /// All are there where nothing is copied: a sum over replicas needs no case for those that copy nothing.
    fn audit(&self, told: &mut Snapshot) {
        let of = |count: fn(&AuditCopyCounts) -> u64| self.audit.as_deref().map_or(0, count);
        told.number(&names::AUDIT_COPIED, float(of(AuditCopyCounts::entries)));
        told.number(&names::AUDIT_COPY_FAILURES, float(of(AuditCopyCounts::failures)));
        let complete_at = self.audit.as_ref().map(|counts| counts.complete_at());
        told.number(&names::AUDIT_COPY_COMPLETE, unix_seconds(complete_at.unwrap_or(UnixMillis(0))));
    }

    fn process(&self, told: &mut Snapshot, facts: &Facts) {
        told.number(&names::READY, truth(facts.phase.is_ready()));
        let refused = [
            ("callers", facts.files.callers_refused),
            ("certificates", facts.files.certificates_refused),
            ("deny_list", facts.files.deny_list_refused),
            ("database_token", facts.files.database_token_refused),
        ];
        told.numbers(&names::RELOAD_REFUSED, refused.map(|(file, refused)| (file, truth(refused))));
        expiries(told, facts);
        let denied = self.witnesses.denied.counts();
        let denied = [("keys", denied.keys), ("tenants", denied.tenants), ("hashes", denied.hashes)];
        told.numbers(&names::DENIED, denied.map(|(kind, count)| (kind, size(count))));
        told.number(&names::PEPPER_MISSING, truth(facts.pepper_missing.is_some()));
        let dirty = if build::THIS.dirty { "true" } else { "false" };
        let build = labels([build::THIS.version, build::THIS.commit, build::THIS.branch, dirty]);
        told.tell(&names::BUILD_INFO, [(build, Value::Number(1.0))]);
        told.number(&names::UPTIME, self.uptime(facts).as_secs_f64());
        told.number(&names::PROCESS_START, unix_seconds(self.began.wall));
        let process = Process::look();
        told.perhaps(&names::PROCESS_CPU, process.cpu_seconds);
        told.perhaps(&names::PROCESS_MEMORY, process.resident_bytes);
        told.perhaps(&names::PROCESS_FDS, process.open_fds);
        told.perhaps(&names::PROCESS_MAX_FDS, process.max_fds);
        told.perhaps(&names::PROCESS_THREADS, process.threads);
    }

    fn otlp(&self, told: &mut Snapshot) {
        let spans = &self.otlp.spans;
        let outcomes =
            [("exported", &spans.exported), ("dropped", &spans.dropped), ("failed", &spans.failed)];
        told.numbers(&names::OTLP_SPANS, outcomes.map(|(outcome, count)| (outcome, float(count.get()))));
        let signal = |signal, outcomes: &Outcomes| {
            [("ok", outcomes.ok.get()), ("failed", outcomes.failed.get())]
                .map(|(outcome, count)| (labels([signal, outcome]), Value::Number(float(count))))
        };
        let exports = signal("traces", &self.otlp.traces).into_iter();
        told.tell(&names::OTLP_EXPORTS, exports.chain(signal("metrics", &self.otlp.metrics)));
    }

    fn uptime(&self, facts: &Facts) -> Duration {
        facts.now.since(self.began)
    }
}

fn expiries(told: &mut Snapshot, facts: &Facts) {
    told.numbers(&names::CERTIFICATE_EXPIRY, dates(facts, false, |expiry| Some(expiry.not_after)));
    told.numbers(&names::CERTIFICATE_NOT_BEFORE, dates(facts, false, |expiry| expiry.not_before));
    told.numbers(&names::TOKEN_EXPIRY, dates(facts, true, |expiry| Some(expiry.not_after)));
    told.numbers(&names::TOKEN_ISSUED, dates(facts, true, |expiry| expiry.not_before));
}

/// Dates of certificates or of tokens, in seconds since 1970.
fn dates(
    facts: &Facts,
    tokens: bool,
    date: fn(&Expiry) -> Option<UnixMillis>,
) -> impl Iterator<Item = (&'static str, f64)> {
    let some = facts.expiries.iter().filter(move |expiry| expiry.what.is_token() == tokens);
    some.filter_map(move |expiry| Some((expiry.what.as_str(), seconds(date(expiry)?.0))))
}

fn database(told: &mut Snapshot, hop: &Hop, facts: &Facts) {
    let (breaker, observed, bounded) = (hop.breaker(), hop.observed(), hop.bounded());
    let writes = facts.writes;
    let tried = [(Operation::Read, facts.reads), (Operation::Write, writes.condition)];
    let tried = tried.into_iter().filter_map(|(operation, condition)| Some((operation.as_str(), condition?)));
    let up = tried.clone().map(|(operation, condition)| (operation, truth(condition.works())));
    told.numbers(&names::DATABASE_UP, up);
    let last = tried.map(|(operation, condition)| (operation, seconds(condition.last.wall.0)));
    told.numbers(&names::DATABASE_LAST_TRIED, last);
    let stalled = writes.condition.is_some_and(|last| last.failure == Some(FailureKind::TimedOut));
    told.number(&names::DATABASE_WRITES_STALLED, truth(stalled));
    let waiting = Lane::WRITING.map(|lane| (lane.as_str(), size(hop.writes().waiting(lane))));
    told.numbers(&names::DATABASE_WRITES_WAITING, waiting);
    let oldest = writes.under_way_for.unwrap_or_default();
    told.number(&names::DATABASE_WRITE_UNDER_WAY, oldest.as_secs_f64());
    told.number(&names::DATABASE_TRUSTED, truth(facts.doubt.is_none()));
    told.number(&names::DATABASE_STANDSTILL, facts.standstill.unwrap_or_default().as_secs_f64());
    told.number(&names::SCHEDULER_LAG, facts.scheduler_lag.as_secs_f64());
    told.perhaps(&names::CLOCK_OFFSET, facts.clock_offset.map(seconds));
    let outcomes = || iter::once(None).chain(FailureKind::ALL.map(Some));
    let mut times = Vec::new();
    for lane in Lane::ALL {
        for failure in outcomes() {
            let took = observed.took(lane, failure);
            if took.count() > 0 {
                let outcome = failure.map_or("ok", FailureKind::as_str);
                times.push((labels([lane.as_str(), outcome]), Value::Times(took)));
            }
        }
    }
    told.tell(&names::DATABASE_CALL_DURATION, times);
    let failures = Operation::ALL.into_iter().flat_map(|operation| {
        FailureKind::ALL.map(|kind| {
            let refused = if kind == FailureKind::CircuitOpen { breaker.refused(operation) } else { 0 };
            let count = observed.failures(operation, kind) + refused;
            (labels([operation.as_str(), kind.as_str()]), Value::Number(float(count)))
        })
    });
    told.tell(&names::DATABASE_FAILURES, failures);
    told.number(&names::DATABASE_RETRIES, float(hop.attempts().retries()));
    told.numbers(
        &names::DATABASE_CALLS,
        Lane::ALL.map(|lane| (lane.as_str(), size(bounded.in_flight(lane)))),
    );
    let limits = Lane::ALL.map(|lane| (lane.as_str(), size(bounded.limit(lane))));
    told.numbers(&names::DATABASE_CALLS_LIMIT, limits);
    let open = Circuit::ALL.into_iter().zip(facts.open_circuits);
    told.numbers(&names::BREAKER_OPEN, open.map(|(circuit, open)| (circuit.as_str(), truth(open))));
    let opened = Circuit::ALL.map(|circuit| (circuit.as_str(), float(breaker.opened(circuit))));
    told.numbers(&names::BREAKER_OPENED, opened);
}

fn labels<const N: usize>(labels: [&'static str; N]) -> Vec<Label> {
    labels.map(Label::from).into()
}

fn truth(what: bool) -> f64 {
    f64::from(u8::from(what))
}

/// Whole seconds since 1970.
fn unix_seconds(at: UnixMillis) -> f64 {
    u32::try_from(at.0 / 1_000).map_or(0.0, f64::from)
}

fn seconds(millis: i64) -> f64 {
    let length = Duration::from_millis(millis.unsigned_abs()).as_secs_f64();
    if millis < 0 { -length } else { length }
}

fn size(count: usize) -> f64 {
    float(count as u64)
}
