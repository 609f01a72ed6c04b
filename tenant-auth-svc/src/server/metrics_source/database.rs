//! Metrics of the database.

use std::iter;

use super::{MetricsFormat, bool_to_f64, count_to_f64, labels, millis_to_seconds, push_counts, usize_to_f64};
use crate::{
    database::{
        client::{DatabaseClient, observer},
        hrana::RowCounts,
    },
    domain::{
        known_database::read_route::ReadSource,
        store::{Circuit, FailureKind, Lane, Operation},
    },
    instruments::durations::Distribution,
    ops::status::ServiceStatus,
    telemetry::{
        names,
        snapshot::{MetricsSnapshot, SampleValue},
    },
};

/// Failures that are reported from the start, even at 0: those that an alert names.
const ALERTED_FAILURES: [FailureKind; 8] = [
    FailureKind::Denied,
    FailureKind::Blocked,
    FailureKind::ReadOnly,
    FailureKind::DiskFull,
    FailureKind::Throttled,
    FailureKind::InvalidResponse,
    FailureKind::SchemaMissing,
    FailureKind::Internal,
];

pub(super) fn add_database_metrics(
    snapshot: &mut MetricsSnapshot,
    hop: &DatabaseClient,
    status: &ServiceStatus,
    format: MetricsFormat,
) {
    let (breaker, bounded) = (hop.breaker(), hop.bulkhead());
    let writes = status.writes;
    let tried = [(Operation::Read, status.reads), (Operation::Write, writes.condition)];
    let tried = tried.into_iter().filter_map(|(operation, condition)| Some((operation.as_str(), condition?)));
    let up = tried.clone().map(|(operation, condition)| (operation, bool_to_f64(condition.is_healthy())));
    snapshot.push_by_label(&names::DATABASE_UP, up);
    let last =
        tried.map(|(operation, condition)| (operation, millis_to_seconds(condition.last_call_at.wall.0)));
    snapshot.push_by_label(&names::DATABASE_LAST_ATTEMPT, last);
    let stalled = writes.condition.is_some_and(|last| last.failure == Some(FailureKind::TimedOut));
    snapshot.push(&names::DATABASE_WRITES_STALLED, bool_to_f64(stalled));
    let waiting = Lane::WRITING.map(|lane| (lane.as_str(), usize_to_f64(hop.write_queue().queued(lane))));
    snapshot.push_by_label(&names::DATABASE_WRITES_WAITING, waiting);
    let oldest = writes.under_way_for.unwrap_or_default();
    snapshot.push(&names::DATABASE_WRITE_IN_PROGRESS, oldest.as_secs_f64());
    snapshot.push(&names::DATABASE_TRUSTED, bool_to_f64(status.distrust.is_none()));
    snapshot.push(
        &names::DATABASE_READ_REPLICA_STALLED,
        status.read_replica_stalled_for.unwrap_or_default().as_secs_f64(),
    );
    add_read_route(snapshot, hop, status);
    snapshot.push(&names::SCHEDULER_LAG, status.scheduler_lag.as_secs_f64());
    snapshot.push_optional(&names::CLOCK_OFFSET, status.clock_offset.map(millis_to_seconds));
    add_call_durations(snapshot, hop, format);
    let failures = Operation::ALL.into_iter().flat_map(|operation| {
        FailureKind::ALL.into_iter().filter_map(move |kind| {
            let refused = if kind == FailureKind::CircuitOpen { breaker.refused_count(operation) } else { 0 };
            let failed = hop.observers().map(|observed| observed.failure_count(operation, kind));
            let count = failed.sum::<u64>() + refused;
            let labels = labels([operation.as_str(), kind.as_str()]);
            (count > 0 || ALERTED_FAILURES.contains(&kind)).then_some((labels, count))
        })
    });
    push_counts(snapshot, &names::DATABASE_FAILURES, failures);
    if hop.row_counts().next().is_some() {
        let of_lanes = |count: &dyn Fn(&RowCounts, Lane) -> u64| {
            Lane::ALL.map(|lane| {
                let count: u64 = hop.row_counts().map(|rows| count(rows, lane)).sum();
                (lane.as_str(), count_to_f64(count))
            })
        };
        snapshot.push_by_label(&names::DATABASE_ROWS_READ, of_lanes(&RowCounts::read));
        snapshot.push_by_label(&names::DATABASE_ROWS_WRITTEN, of_lanes(&RowCounts::written));
    }
    snapshot.push(&names::DATABASE_RETRIES, count_to_f64(hop.retry_layer().retries()));
    snapshot.push_by_label(
        &names::DATABASE_CALLS,
        Lane::ALL.map(|lane| (lane.as_str(), usize_to_f64(bounded.in_flight(lane)))),
    );
    let limits = Lane::ALL.map(|lane| (lane.as_str(), usize_to_f64(bounded.limit(lane))));
    snapshot.push_by_label(&names::DATABASE_CALLS_LIMIT, limits);
    let open = Circuit::ALL.into_iter().zip(status.open_circuits);
    snapshot.push_by_label(
        &names::BREAKER_OPEN,
        open.map(|(circuit, open)| (circuit.as_str(), bool_to_f64(open))),
    );
    let opened = Circuit::ALL.map(|circuit| (circuit.as_str(), count_to_f64(breaker.open_count(circuit))));
    snapshot.push_by_label(&names::BREAKER_OPENED, opened);
}

/// Reads of both sources from the start: an alert needs the zero.
fn add_read_route(snapshot: &mut MetricsSnapshot, hop: &DatabaseClient, status: &ServiceStatus) {
    let Some(route) = status.read_route else { return };
    let is_used = route.source == ReadSource::ReadReplica;
    snapshot.push(&names::DATABASE_READ_REPLICA_USED, bool_to_f64(is_used));
    snapshot.push(&names::DATABASE_READ_REPLICA_LAG, route.lag.as_secs_f64());
    snapshot.push(&names::DATABASE_READ_REPLICA_LAG_CHANGES, count_to_f64(route.lag_positions));
    let router = hop.read_router();
    let reads = ReadSource::ALL.map(|source| (source.as_str(), count_to_f64(router.answered_reads(source))));
    snapshot.push_by_label(&names::DATABASE_READS, reads);
    snapshot.push(&names::DATABASE_READ_FALLBACKS, count_to_f64(router.fallbacks()));
}

fn add_call_durations(snapshot: &mut MetricsSnapshot, hop: &DatabaseClient, format: MetricsFormat) {
    let mut times = Vec::new();
    for lane in Lane::ALL {
        for failure in iter::once(None).chain(FailureKind::ALL.map(Some)) {
            let error = failure.map(FailureKind::as_str);
            let mut in_lane = Distribution::default();
            for operation in Operation::ALL {
                let mut took = Distribution::default();
                for observed in hop.observers() {
                    took.add(&observed.latency(operation, lane, failure));
                }
                in_lane.add(&took);
                if format == MetricsFormat::Otlp && took.count() > 0 {
                    let name = observer::operation_name(operation);
                    let labels =
                        labels([observer::DATABASE_SYSTEM, name, lane.as_str(), error.unwrap_or_default()]);
                    times.push((labels, SampleValue::Histogram(took)));
                }
            }
            if format == MetricsFormat::Prometheus && in_lane.count() > 0 {
                let labels = labels([lane.as_str(), error.unwrap_or("ok")]);
                times.push((labels, SampleValue::Histogram(in_lane)));
            }
        }
    }
    let metric = match format {
        MetricsFormat::Prometheus => &names::DATABASE_CALL_DURATION,
        MetricsFormat::Otlp => &names::DB_CLIENT_OPERATION_DURATION,
    };
    snapshot.push_samples(metric, times);
}
