//! Metrics of RPCs and of decisions.

use tonic::Code;

use super::{MetricsFormat, MetricsSources, count_to_f64, labels, push_counts, push_nonzero, usize_to_f64};
use crate::{
    domain::{session::SessionVerdict, verdict::Verdict},
    forward::counts::Door,
    grpc::{
        code::{self, all_codes},
        permits::Limiter,
        tally::TallyKind,
    },
    middleware::metrics::{RpcCounters, RpcLabels},
    telemetry::{
        names,
        snapshot::{LabelValue, MetricsSnapshot, SampleValue},
    },
};

/// Codes that are reported even at 0, because the alerts on error ratios need the series before its first increase: for the RPCs
/// of daily traffic from the start, for the other RPCs of this service from their first call.
const ALERTED_CODES: [Code; 4] =
    [Code::Unavailable, Code::DeadlineExceeded, Code::ResourceExhausted, Code::Internal];
/// Verdicts that are reported even at 0, because an alert compares the ratio of the second.
const ALERTED_VERDICTS: [SessionVerdict; 2] = [SessionVerdict::VALID, SessionVerdict::Key(Verdict::Unknown)];
impl MetricsSources {
    pub(super) fn add_request_metrics(&self, snapshot: &mut MetricsSnapshot, format: MetricsFormat) {
        let rpcs: Vec<_> = self.rpc_metrics.counters().collect();
        let called = || rpcs.iter().filter(|rpc| rpc.started > 0);
        let counts = |of: fn(&RpcCounters) -> u64| {
            called().map(move |rpc| (rpc_labels(rpc.labels), of(rpc))).filter(|(_, count)| *count > 0)
        };
        push_counts(snapshot, &names::RPCS_STARTED, counts(|rpc| rpc.started));
        let ended = rpcs.iter().flat_map(|rpc| {
            let is_alerted =
                rpc.labels.is_routine() || rpc.started > 0 && rpc.labels.name.starts_with("tenantauth.");
            all_codes().filter_map(move |code| {
                let ended = rpc.ended(code);
                let mut labels = rpc_labels(rpc.labels);
                labels.push(code::go_name(code).into());
                (ended > 0 || is_alerted && ALERTED_CODES.contains(&code)).then_some((labels, ended))
            })
        });
        push_counts(snapshot, &names::RPCS_HANDLED, ended);
        match format {
            MetricsFormat::Prometheus => snapshot.push_samples(
                &names::RPC_HANDLING,
                called()
                    .map(|rpc| (rpc_labels(rpc.labels), rpc.latency()))
                    .filter(|(_, took)| took.count() > 0)
                    .map(|(labels, took)| (labels, SampleValue::Histogram(took))),
            ),
            MetricsFormat::Otlp => snapshot.push_samples(
                &names::RPC_SERVER_CALL_DURATION,
                called().flat_map(|rpc| {
                    rpc.latency_by_code.iter().map(|(code, took)| {
                        let status = code::canonical_name(*code);
                        let error = if code::is_server_error(*code) { status } else { "" };
                        let labels = labels(["grpc", rpc.labels.name, status, error]);
                        (labels, SampleValue::Histogram(took.clone()))
                    })
                }),
            ),
        }
        push_counts(snapshot, &names::RPC_MESSAGES_RECEIVED, counts(|rpc| rpc.received));
        push_counts(snapshot, &names::RPC_MESSAGES_SENT, counts(|rpc| rpc.sent));
        let in_flight = called().map(|rpc| {
            let labels = labels([rpc.labels.service, rpc.labels.method]);
            (labels, SampleValue::Number(count_to_f64(rpc.in_flight)))
        });
        snapshot.push_samples(&names::RPCS_IN_FLIGHT, in_flight);
        let pools = self.limiters.named();
        let numbers = |of: fn(&Limiter) -> f64| pools.map(|(name, limiter)| (name, of(limiter)));
        push_nonzero(snapshot, &names::REQUESTS_SHED, pools.map(|(name, limiter)| (name, limiter.refused())));
        snapshot.push_by_label(&names::PERMITS, numbers(|limiter| usize_to_f64(limiter.limit())));
        snapshot.push_by_label(&names::PERMITS_IN_USE, numbers(|limiter| usize_to_f64(limiter.taken())));
    }

    /// Without series for doors that nobody uses.
    pub(super) fn add_front_door_metrics(&self, snapshot: &mut MetricsSnapshot) {
        let requests = self.door_counts.requests().filter(|(.., count)| *count > 0);
        let requests = requests.map(|(door, code, count)| (labels([door.as_str(), code]), count));
        push_counts(snapshot, &names::FRONT_DOOR_REQUESTS, requests);
        let durations = Door::ALL.map(|door| (door.as_str(), self.door_counts.duration(door)));
        let durations = durations.into_iter().filter(|(_, duration)| duration.count() > 0);
        let samples = durations.map(|(door, duration)| (labels([door]), SampleValue::Histogram(duration)));
        snapshot.push_samples(&names::FRONT_DOOR_DURATION, samples);
    }

    pub(super) fn add_decision_metrics(&self, snapshot: &mut MetricsSnapshot) {
        let count = |what| self.rpc_metrics.decision_count(what);
        let (mut verdicts, mut sources, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
        for what in TallyKind::all() {
            let count = count(what);
            match what {
                TallyKind::Verdict(verdict) if count > 0 || ALERTED_VERDICTS.contains(&verdict) => {
                    verdicts.push((verdict.as_str(), count_to_f64(count)));
                }
                TallyKind::Verdict(_) => {}
                TallyKind::Source(source) => sources.push((source.as_str(), count)),
                TallyKind::Failure(kind) => reasons.push((kind.as_str(), count_to_f64(count))),
                TallyKind::NotTried => reasons.push(("not_tried", count_to_f64(count))),
            }
        }
        snapshot.push_by_label(&names::VERDICTS, verdicts);
        push_nonzero(snapshot, &names::ANSWERS, sources);
        // All, even at 0: the alerts on error ratios need them.
        snapshot.push_by_label(&names::UNDECIDED, reasons);
    }
}

fn rpc_labels(rpc: RpcLabels) -> Vec<LabelValue> {
    labels([rpc.rpc_type.as_str(), rpc.service, rpc.method])
}
