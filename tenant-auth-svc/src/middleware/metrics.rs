//! Counts RPCs: their number, outcome, latency, messages and decisions.
//!
//! Threads share no counters here: see [`counts`](crate::instruments::counts).

use std::{
    sync::{Arc, LazyLock, OnceLock},
    time::Instant,
};

use http::Request;
use tonic::Code;

use super::rpc_observer::RpcObserver;
use crate::{
    domain::{
        access,
        verdict::{Source, Verdict},
    },
    grpc::{
        code::{CODE_COUNT, all_codes},
        context::RpcRecord,
        framing::MessageCounter,
        rpc_type::{RpcType, described_rpcs},
        tally::TallyKind,
    },
    instruments::{
        counts::Counts,
        durations::{Distribution, DurationHistograms},
    },
};

/// The name of RPCs that do not exist, as defined by OpenTelemetry.
pub(super) const UNKNOWN_RPC: &str = "_OTHER";

/// The labels of an RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RpcLabels {
    /// The full name, such as `tenantauth.v1.InfoService/GetServerInfo`.
    pub name: &'static str,
    /// Unary or a stream.
    pub rpc_type: RpcType,
    /// Such as `tenantauth.v1.InfoService`.
    pub service: &'static str,
    /// Such as `GetServerInfo`.
    pub method: &'static str,
}

impl RpcLabels {
    /// The labels of all RPCs that do not exist.
    const UNKNOWN: Self =
        Self { name: UNKNOWN_RPC, rpc_type: RpcType::Unknown, service: "unknown", method: "unknown" };

    /// Whether the RPC belongs to daily traffic.
    pub(crate) fn is_routine(&self) -> bool {
        is_routine(self.name)
    }
}

/// Whether an RPC belongs to daily traffic: a log line for each would hide everything else.
pub(super) fn is_routine(rpc: &str) -> bool {
    [
        "tenantauth.v1.ValidationService/",
        "envoy.service.auth.v3.Authorization/",
        "tenantauth.v1.SessionService/",
        "tenantauth.v1.LimitService/",
        "tenantauth.v1.UsageService/RecordUsage",
    ]
    .iter()
    .any(|routine| rpc.starts_with(routine))
}

/// All RPCs in the order of the access rules, then the entry for RPCs that do not exist.
static RPCS: LazyLock<Vec<RpcLabels>> = LazyLock::new(|| {
    let described = described_rpcs();
    let labels = |path: &'static str| {
        let name = path.trim_start_matches('/');
        let (service, method) = name.split_once('/').unwrap_or((name, ""));
        let known = described.iter().find(|(known, _)| known == path);
        let rpc_type = known.map_or(RpcType::Unknown, |(_, rpc_type)| *rpc_type);
        RpcLabels { name, rpc_type, service, method }
    };
    access::access_rules().map(|(path, _)| labels(path)).chain([RpcLabels::UNKNOWN]).collect()
});

// The counts of one RPC: started, messages received, messages sent.
const RECEIVED_OFFSET: usize = 1;
const SENT_OFFSET: usize = 2;
const SLOTS_PER_RPC: usize = 3;

/// The first slot of an RPC. The slots of decisions come before those of RPCs.
fn first_slot(rpc: usize) -> usize {
    TallyKind::COUNT + rpc * SLOTS_PER_RPC
}

/// The counts of all RPCs.
#[derive(Debug)]
pub struct RpcMetrics {
    counts: Counts,
    /// The latency of each RPC by code. Most RPCs never end with most codes, so each histogram is created on first use.
    latencies: Box<[OnceLock<DurationHistograms>]>,
}

/// The values of one RPC.
#[derive(Clone, Debug)]
pub struct RpcCounters {
    /// The labels.
    pub labels: RpcLabels,
    /// RPCs that have started.
    pub started: u64,
    /// RPCs that have started and not ended.
    pub in_flight: u64,
    /// Latency by code, without codes that have not occurred.
    pub latency_by_code: Vec<(Code, Distribution)>,
    /// Messages received.
    pub received: u64,
    /// Messages sent.
    pub sent: u64,
}

impl RpcCounters {
    /// The number of RPCs that have ended with a code.
    #[must_use]
    pub fn ended(&self, code: Code) -> u64 {
        self.latency_by_code.iter().filter(|(ended, _)| *ended == code).map(|(_, took)| took.count()).sum()
    }

    /// The latency of all codes together.
    #[must_use]
    pub fn latency(&self) -> Distribution {
        let mut all = Distribution::default();
        for (_, took) in &self.latency_by_code {
            all.add(took);
        }
        all
    }
}

impl Default for RpcMetrics {
    fn default() -> Self {
        let latencies = std::iter::repeat_with(OnceLock::new).take(RPCS.len() * CODE_COUNT).collect();
        Self { counts: Counts::new(first_slot(RPCS.len())), latencies }
    }
}

impl RpcMetrics {
    /// The values of every RPC, and of those that do not exist.
    pub fn counters(&self) -> impl Iterator<Item = RpcCounters> {
        RPCS.iter().enumerate().map(|(rpc, labels)| {
            let first = first_slot(rpc);
            let latency = |code: Code| {
                let took = self.latencies.get(latency_index(rpc, code))?.get()?.read(0);
                (took.count() > 0).then_some((code, took))
            };
            let latency_by_code: Vec<_> = all_codes().filter_map(latency).collect();
            let ended = latency_by_code.iter().map(|(_, took)| took.count()).sum();
            // Read after the ended ones, so that it is never lower.
            let started = self.counts.get(first);
            RpcCounters {
                labels: *labels,
                started,
                in_flight: started.saturating_sub(ended),
                latency_by_code,
                received: self.counts.get(first + RECEIVED_OFFSET),
                sent: self.counts.get(first + SENT_OFFSET),
            }
        })
    }

    /// Counts an RPC that the fast path answered: one message received, one sent.
    pub fn count_cache_hit(&self, path: &str, decisions: &[(Verdict, Source)], started: Instant) {
        let rpc = rpc_index(path);
        let (slots, shard) = (first_slot(rpc), self.counts.thread_shard());
        for (verdict, source) in decisions {
            shard.add(TallyKind::Verdict((*verdict).into()).index(), 1);
            shard.add(TallyKind::Source(*source).index(), 1);
        }
        for slot in [slots, slots + RECEIVED_OFFSET, slots + SENT_OFFSET] {
            shard.add(slot, 1);
        }
        self.record_end(rpc, Code::Ok, started);
    }

    /// Takes over the decisions of a request that was no RPC.
    pub fn add_decisions(&self, record: &RpcRecord) {
        let shard = self.counts.thread_shard();
        record.tally().drain(|place, number| shard.add(place, u64::from(number)));
    }

    /// The number of keys and sessions with this outcome.
    #[must_use]
    pub fn decision_count(&self, what: TallyKind) -> u64 {
        self.counts.get(what.index())
    }

    fn record_end(&self, rpc: usize, code: Code, started: Instant) {
        if let Some(latency) = self.latencies.get(latency_index(rpc, code)) {
            latency.get_or_init(|| DurationHistograms::new(1)).record(0, started.elapsed());
        }
    }
}

fn latency_index(rpc: usize, code: Code) -> usize {
    rpc * CODE_COUNT + code as usize
}

/// The full name of the RPC at a path, or [`UNKNOWN_RPC`].
pub(super) fn rpc_name(path: &str) -> &'static str {
    RPCS.get(rpc_index(path)).map_or(UNKNOWN_RPC, |rpc| rpc.name)
}

/// The index of the RPC at a path. Callers can invent paths, but cannot create label values with them.
fn rpc_index(path: &str) -> usize {
    // The most frequent RPCs come first, and most paths differ in length.
    let place = access::access_rules().position(|(rpc, _)| rpc == path);
    place.unwrap_or(RPCS.len() - 1)
}

/// Counts one RPC.
#[derive(Debug)]
pub struct RpcCounting {
    metrics: Arc<RpcMetrics>,
    rpc: usize,
    sent: MessageCounter,
    record: Option<RpcRecord>,
    started: Instant,
}

impl RpcCounting {
    /// Counts the start of an RPC.
    pub(super) fn start<In>(metrics: &Arc<RpcMetrics>, request: &Request<In>) -> Self {
        let rpc = rpc_index(request.uri().path());
        metrics.counts.add(first_slot(rpc), 1);
        let record = request.extensions().get::<RpcRecord>().cloned();
        let (metrics, sent) = (Arc::clone(metrics), MessageCounter::default());
        Self { metrics, rpc, sent, record, started: Instant::now() }
    }

    /// Adds what the request has counted since the last call.
    fn take_counts(&self) {
        let Some(record) = &self.record else { return };
        let shard = self.metrics.counts.thread_shard();
        record.tally().drain(|place, number| shard.add(place, u64::from(number)));
        match record.take_received_messages() {
            0 => {}
            count => shard.add(first_slot(self.rpc) + RECEIVED_OFFSET, u64::from(count)),
        }
    }
}

impl RpcObserver for RpcCounting {
    type Held = ();

    fn enter(&self) {}

    fn on_data(&mut self, data: &[u8]) {
        match self.sent.feed(data) {
            0 => {}
            count => self.metrics.counts.add(first_slot(self.rpc) + SENT_OFFSET, count),
        }
        self.take_counts();
    }

    fn on_end(&mut self, code: Option<Code>) {
        self.take_counts();
        let is = |what: fn(&RpcRecord) -> bool| self.record.as_ref().is_some_and(what);
        let code = match code.unwrap_or(Code::Cancelled) {
            // A caller's mistake must not look like overload.
            Code::ResourceExhausted if is(RpcRecord::has_oversized_message) => Code::InvalidArgument,
            // Nor must many unknown callers: with more permits they would be refused all the same.
            Code::ResourceExhausted if is(RpcRecord::is_from_unknown_caller) => Code::Unauthenticated,
            code => code,
        };
        self.metrics.record_end(self.rpc, code, self.started);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::Uri;
    use tonic::Status;
    use tower::{Layer as _, ServiceExt as _};

    use super::*;
    use crate::middleware::observability::RpcObserverLayer;

    /// The number of RPCs counted with `code` after one with `record` was refused with RESOURCE_EXHAUSTED.
    async fn count_refused_as(record: RpcRecord, code: Code) -> u64 {
        let rpcs = Arc::new(RpcMetrics::default());
        let refuses = tower::service_fn(|_: Request<()>| async {
            Ok::<_, Infallible>(Status::resource_exhausted("").into_http::<String>())
        });
        let mut request = Request::new(());
        *request.uri_mut() = Uri::from_static("/tenantauth.v1.ValidationService/ValidateKey");
        request.extensions_mut().insert(record);
        let _answer = RpcObserverLayer::new(Arc::clone(&rpcs)).layer(refuses).oneshot(request).await;
        rpcs.counters().map(|numbers| numbers.ended(code)).sum()
    }

    #[tokio::test]
    async fn refused_unknown_caller_counts_as_unauthenticated() {
        assert_eq!(count_refused_as(RpcRecord::from_unknown_caller(), Code::Unauthenticated).await, 1);
        assert_eq!(count_refused_as(RpcRecord::from_unknown_caller(), Code::ResourceExhausted).await, 0);
        assert_eq!(count_refused_as(RpcRecord::default(), Code::ResourceExhausted).await, 1);
    }

    #[test]
    fn every_rpc_has_a_type_and_a_name_of_two_parts() {
        for rpc in &RPCS[..RPCS.len() - 1] {
            assert_ne!(rpc.rpc_type, RpcType::Unknown, "{}", rpc.name);
            assert_eq!(rpc.name, format!("{}/{}", rpc.service, rpc.method));
        }
    }

    #[test]
    fn unknown_path_is_counted_as_unknown() {
        assert_eq!(
            rpc_name("/tenantauth.v1.ValidationService/ValidateKey"),
            "tenantauth.v1.ValidationService/ValidateKey"
        );
        for made_up in ["", "/", "/other", "/tenantauth.v1.ValidationService/validatekey", "/a.b/C"] {
            assert_eq!(RPCS[rpc_index(made_up)], RpcLabels::UNKNOWN, "{made_up}");
        }
    }

    #[test]
    fn cache_hit_counts_one_message_each_way() {
        let rpcs = RpcMetrics::default();
        rpcs.count_cache_hit("/tenantauth.v1.ValidationService/ValidateKey", &[], Instant::now());
        let numbers = rpcs.counters().next().unwrap();
        assert_eq!((numbers.started, numbers.received, numbers.sent), (1, 1, 1));
        assert_eq!((numbers.ended(Code::Ok), numbers.in_flight, numbers.latency().count()), (1, 0, 1));
    }
}
