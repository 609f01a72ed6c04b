//! Metrics of limits.

use super::{count_to_f64, labels, push_counts, usize_to_f64};
use crate::{
    domain::limit::counter::DecidedBy,
    limit_leases::LimitResult,
    ops::status::ServiceStatus,
    service_types::ServiceLimits,
    telemetry::{
        names,
        snapshot::{MetricsSnapshot, SampleValue},
    },
};

/// Results that are reported from the start, even at 0, because alerts name them.
const ALERTED_RESULTS: [LimitResult; 2] = [LimitResult::ShadowExceeded, LimitResult::Undecided];

pub(super) fn add_limit_metrics(
    snapshot: &mut MetricsSnapshot,
    limits: &ServiceLimits,
    status: &ServiceStatus,
) {
    let counts = limits.counts();
    let decisions = LimitResult::ALL.into_iter().flat_map(|result| {
        DecidedBy::ALL.into_iter().filter_map(move |decided_by| {
            let count = counts.decisions(result, decided_by);
            let labels = labels([result.as_str(), decided_by.as_str()]);
            (count > 0 || ALERTED_RESULTS.contains(&result)).then_some((labels, count))
        })
    });
    push_counts(snapshot, &names::LIMIT_DECISIONS, decisions);
    snapshot.push(&names::LIMIT_COUNTERS, usize_to_f64(limits.counters_in_use()));
    let exchanges = [("ok", counts.exchanges()), ("failed", counts.failed_exchanges())];
    push_counts(
        snapshot,
        &names::LIMIT_EXCHANGES,
        exchanges.map(|(outcome, count)| (labels([outcome]), count)),
    );
    snapshot.push_samples(
        &names::LIMIT_EXCHANGE_DURATION,
        [(Vec::new(), SampleValue::Histogram(counts.exchange_latency()))],
    );
    let failing = status.limits.filter(|condition| !condition.is_healthy());
    let failing_for = failing.map(|condition| status.now.since(condition.since));
    snapshot.push(&names::LIMIT_EXCHANGE_FAILING, failing_for.unwrap_or_default().as_secs_f64());
    snapshot.push(&names::LIMIT_LEASES_EXCHANGED, count_to_f64(counts.leases()));
    snapshot.push(&names::LIMIT_LEASES_STARVED, count_to_f64(counts.starved()));
}
