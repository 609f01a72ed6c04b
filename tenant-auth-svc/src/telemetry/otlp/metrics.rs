//! Exports all metrics periodically.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use opentelemetry_proto::{
    tonic::{
        collector::metrics::v1::{ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient},
        common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
        metrics::v1::{
            AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
            ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
        },
        resource::v1::Resource as SentResource,
    },
    transform::common::tonic::ResourceAttributesWithSchema,
};
use opentelemetry_sdk::Resource;
use tokio::{sync::watch, time::MissedTickBehavior};

use super::{CollectorChannel, OtlpCounts, SnapshotSource};
use crate::{
    instruments::durations::BUCKET_BOUNDS,
    telemetry::{
        names::{self, MetricKind},
        snapshot::{Family, MetricsSnapshot, Sample, SampleValue},
    },
};

/// The interval of exports.
const EXPORT_INTERVAL: Duration = Duration::from_secs(30);

/// Exports metrics.
pub(super) struct MetricsSender {
    client: MetricsServiceClient<CollectorChannel>,
    resource: ResourceAttributesWithSchema,
    snapshot_source: SnapshotSource,
    counts: Arc<OtlpCounts>,
    /// The start of all cumulative counts.
    started_at: SystemTime,
}

impl MetricsSender {
    pub(super) fn new(
        collector: CollectorChannel,
        resource: &Resource,
        gather: SnapshotSource,
        counts: Arc<OtlpCounts>,
        since: SystemTime,
    ) -> Self {
        Self {
            client: MetricsServiceClient::new(collector),
            resource: resource.into(),
            snapshot_source: gather,
            counts,
            started_at: since,
        }
    }

    /// Runs until the stop signal, and then exports once more.
    pub(super) async fn run(mut self, mut ending: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(EXPORT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_running = true;
        while is_running {
            tokio::select! {
                _ = ticks.tick() => {}
                // An error means that the sender is dropped.
                _ = ending.wait_for(|end| *end) => is_running = false,
            }
            let snapshot = (self.snapshot_source)();
            let request = self.build_request(&snapshot);
            let outcome = self.client.export(request).await;
            self.counts.metrics.record("metrics", outcome.as_ref().map(drop));
        }
    }

    fn build_request(&self, snapshot: &MetricsSnapshot) -> ExportMetricsServiceRequest {
        let times = ExportWindow { since: unix_nanos(self.started_at), now: unix_nanos(SystemTime::now()) };
        let scope = InstrumentationScope { name: "tenant-auth-svc".to_owned(), ..Default::default() };
        let metrics = snapshot.families.iter().map(|family| times.metric(family)).collect();
        let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, schema_url: String::new() }];
        let resource =
            SentResource { attributes: self.resource.attributes.0.clone(), ..SentResource::default() };
        ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(resource),
                scope_metrics,
                schema_url: String::new(),
            }],
        }
    }
}

fn unix_nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The start of the counts and the current time.
struct ExportWindow {
    since: u64,
    now: u64,
}

impl ExportWindow {
    fn metric(&self, family: &Family) -> Metric {
        let of = family.metric;
        let numbers = || family.samples.iter().map(|sample| self.number_point(of, sample)).collect();
        let temporality = AggregationTemporality::Cumulative.into();
        let data = match of.kind {
            MetricKind::Counter => Data::Sum(Sum {
                data_points: numbers(),
                aggregation_temporality: temporality,
                is_monotonic: true,
            }),
            MetricKind::Gauge => Data::Gauge(Gauge { data_points: numbers() }),
            MetricKind::Histogram => Data::Histogram(Histogram {
                data_points: family
                    .samples
                    .iter()
                    .filter_map(|sample| self.histogram_point(of, sample))
                    .collect(),
                aggregation_temporality: temporality,
            }),
        };
        Metric {
            name: of.otlp_name().to_owned(),
            description: of.help.to_owned(),
            unit: of.otlp_unit().to_owned(),
            data: Some(data),
            ..Metric::default()
        }
    }

    fn number_point(&self, of: &names::MetricDefinition, sample: &Sample) -> NumberDataPoint {
        let value = match &sample.value {
            SampleValue::Number(number) => *number,
            SampleValue::Histogram(times) => times.sum,
        };
        NumberDataPoint {
            attributes: attributes(of, sample),
            start_time_unix_nano: self.since,
            time_unix_nano: self.now,
            value: Some(number_data_point::Value::AsDouble(value)),
            ..NumberDataPoint::default()
        }
    }

    fn histogram_point(&self, of: &names::MetricDefinition, sample: &Sample) -> Option<HistogramDataPoint> {
        let SampleValue::Histogram(times) = &sample.value else { return None };
        Some(HistogramDataPoint {
            attributes: attributes(of, sample),
            start_time_unix_nano: self.since,
            time_unix_nano: self.now,
            count: times.count(),
            sum: Some(times.sum),
            bucket_counts: times.buckets.to_vec(),
            explicit_bounds: BUCKET_BOUNDS.to_vec(),
            ..HistogramDataPoint::default()
        })
    }
}

fn attributes(of: &names::MetricDefinition, sample: &Sample) -> Vec<KeyValue> {
    let text = |value: &str| AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    let labels = of.labels.iter().zip(&sample.labels);
    // An attribute that says nothing is absent.
    labels
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| KeyValue {
            key: (*name).to_owned(),
            value: Some(text(value)),
            ..Default::default()
        })
        .collect()
}
