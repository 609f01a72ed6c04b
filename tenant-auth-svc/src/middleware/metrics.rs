//! Counts RPCs: their number, outcome, latency and decisions.
//!
//! Threads share no counters here: see [`counts`](crate::instruments::counts).

use std::{sync::Arc, time::Instant};

use http::Request;
use tonic::Code;

use super::rpc_observer::RpcObserver;
use crate::{
    domain::{
        access,
        verdict::{Source, Verdict},
    },
    grpc::{
        context::RpcRecord,
        tally::{Tally, TallyKind},
    },
    instruments::{
        counts::{Counts, Shard},
        durations::{self, Distribution},
    },
};

/// What is asked for and is no RPC of ours.
pub(super) const UNKNOWN_RPC: &str = "other";

/// The status codes by number, in their canonical spelling.
pub const CODE_NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

// Of one RPC: begun, ended with each code, how long they took.
const ENDED_OFFSET: usize = 1;
const LATENCY_OFFSET: usize = ENDED_OFFSET + CODE_NAMES.len();
const SLOTS_PER_RPC: usize = LATENCY_OFFSET + durations::SLOTS_PER_HISTOGRAM;

/// Where the slots of an RPC begin. What was decided comes before all of them.
fn first_slot(rpc: usize) -> usize {
    TallyKind::COUNT + rpc * SLOTS_PER_RPC
}

/// The counts of all RPCs.
#[derive(Debug)]
pub struct RpcMetrics(Counts);

/// The numbers of one RPC.
#[derive(Clone, Debug)]
pub struct RpcCounters {
    /// Its name, as `tenantauth.v1.InfoService/GetServerInfo`.
    pub name: &'static str,
    /// How many have begun and not ended.
    pub in_flight: u64,
    /// How many have ended with each of [`CODE_NAMES`].
    pub ended_by_code: [u64; CODE_NAMES.len()],
    /// How long they took.
    pub latency: Distribution,
}

impl Default for RpcMetrics {
    fn default() -> Self {
        Self(Counts::new(first_slot(rpc_names().count())))
    }
}

impl RpcMetrics {
    /// The numbers of every RPC there is, and of all that there is not.
    pub fn counters(&self) -> impl Iterator<Item = RpcCounters> {
        rpc_names().enumerate().map(|(rpc, name)| {
            let first = first_slot(rpc);
            let ended = std::array::from_fn(|code| self.0.get(first + ENDED_OFFSET + code));
            // After the ended ones, so that there are never fewer.
            let begun = self.0.get(first);
            let in_flight = begun.saturating_sub(ended.iter().sum());
            RpcCounters {
                name,
                in_flight,
                ended_by_code: ended,
                latency: durations::read(&self.0, first + LATENCY_OFFSET),
            }
        })
    }

    /// Counts an RPC that was answered from memory at once.
    pub fn count_cache_hit(&self, path: &str, decisions: &[(Verdict, Source)], started: Instant) {
        let slots = first_slot(rpc_index(path));
        let shard = self.0.thread_shard();
        for (verdict, source) in decisions {
            shard.add(TallyKind::Verdict((*verdict).into()).index(), 1);
            shard.add(TallyKind::Source(*source).index(), 1);
        }
        shard.add(slots, 1);
        shard.add(slots + ENDED_OFFSET + Code::Ok as usize, 1);
        durations::record(shard, slots + LATENCY_OFFSET, started.elapsed());
    }

    /// How many keys and sessions came to this.
    #[must_use]
    pub fn decision_count(&self, what: TallyKind) -> u64 {
        self.0.get(what.index())
    }
}

fn rpc_names() -> impl Iterator<Item = &'static str> {
    access::access_rules().map(|(path, _)| path.trim_start_matches('/')).chain([UNKNOWN_RPC])
}

/// The name of the RPC at a path: one of ours, or that of all that are not.
pub(super) fn rpc_name(path: &str) -> &'static str {
    let known = access::access_rules().find(|(rpc, _)| *rpc == path);
    known.map_or(UNKNOWN_RPC, |(rpc, _)| rpc.trim_start_matches('/'))
}

/// The number of the RPC at a path. A caller can make up paths, and no names of metrics with them.
fn rpc_index(path: &str) -> usize {
    // The most frequent ones come first, and most differ in length already.
    let place = access::access_rules().position(|(rpc, _)| rpc == path);
    place.unwrap_or_else(|| access::access_rules().count())
}

/// Counts one RPC.
#[derive(Debug)]
pub struct RpcCounting {
    /// That of the thread on which the RPC came: its connection stays there.
    shard: Arc<Shard>,
    first_slot: usize,
    record: Option<RpcRecord>,
    started: Instant,
}

impl RpcCounting {
    /// Counts one that begins.
    pub(super) fn start<In>(rpcs: &RpcMetrics, request: &Request<In>) -> Self {
        let slots = first_slot(rpc_index(request.uri().path()));
        let shard = Arc::clone(rpcs.0.thread_shard());
        shard.add(slots, 1);
        let record = request.extensions().get::<RpcRecord>().cloned();
        Self { shard, first_slot: slots, record, started: Instant::now() }
    }

    fn add_tally(&self, tally: &Tally) {
        tally.drain(|place, number| self.shard.add(place, u64::from(number)));
    }
}

impl RpcObserver for RpcCounting {
    type Held = ();

    fn enter(&self) {}

    fn on_message(&mut self) {
        if let Some(record) = &self.record {
            self.add_tally(record.tally());
        }
    }

    fn on_end(&mut self, code: Option<Code>) {
        self.on_message();
        let is = |what: fn(&RpcRecord) -> bool| self.record.as_ref().is_some_and(what);
        let code = match code.unwrap_or(Code::Cancelled) {
            // What the caller did wrong must not look like a service that has too much to do.
            Code::ResourceExhausted if is(RpcRecord::has_oversized_message) => Code::InvalidArgument,
            // Nor must a crowd of those whom nobody knows: with more places they would be refused all the same.
            Code::ResourceExhausted if is(RpcRecord::is_from_unknown_caller) => Code::Unauthenticated,
            code => code,
        };
        self.shard.add(self.first_slot + ENDED_OFFSET + code as usize, 1);
        durations::record(&self.shard, self.first_slot + LATENCY_OFFSET, self.started.elapsed());
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

    #[test]
    fn code_names_are_ordered_by_number() {
        for (number, name) in CODE_NAMES.iter().enumerate() {
            let code = Code::from_i32(i32::try_from(number).unwrap());
            assert_eq!(format!("{code:?}").to_uppercase(), name.replace('_', ""));
        }
    }

    /// How many ended with `code`, when one that is refused as too many ends as that of `record`.
    async fn count_refused_as(record: RpcRecord, code: Code) -> u64 {
        let rpcs = Arc::new(RpcMetrics::default());
        let refuses = tower::service_fn(|_: Request<()>| async {
            Ok::<_, Infallible>(Status::resource_exhausted("").into_http::<String>())
        });
        let mut request = Request::new(());
        *request.uri_mut() = Uri::from_static("/tenantauth.v1.ValidationService/ValidateKey");
        request.extensions_mut().insert(record);
        let _answer = RpcObserverLayer::new(Arc::clone(&rpcs)).layer(refuses).oneshot(request).await;
        rpcs.counters().map(|numbers| numbers.ended_by_code[code as usize]).sum()
    }

    #[tokio::test]
    async fn refused_unknown_caller_counts_as_unauthenticated() {
        assert_eq!(count_refused_as(RpcRecord::from_unknown_caller(), Code::Unauthenticated).await, 1);
        assert_eq!(count_refused_as(RpcRecord::from_unknown_caller(), Code::ResourceExhausted).await, 0);
        assert_eq!(count_refused_as(RpcRecord::default(), Code::ResourceExhausted).await, 1);
    }

    #[test]
    fn unknown_path_is_counted_as_other() {
        let names: Vec<_> = rpc_names().collect();
        assert_eq!(
            names[rpc_index("/tenantauth.v1.ValidationService/ValidateKey")],
            "tenantauth.v1.ValidationService/ValidateKey"
        );
        for made_up in ["", "/", "/other", "/tenantauth.v1.ValidationService/validatekey", "/a.b/C"] {
            assert_eq!(names[rpc_index(made_up)], UNKNOWN_RPC, "{made_up}");
        }
    }
}
