//! Formats a snapshot in the Prometheus text format, version 0.0.4.
//!
//! The format has no exemplars; the access log has the trace id instead.

use prometheus::{
    TextEncoder,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

use super::{
    names::{self, MetricKind},
    snapshot::{MetricsSnapshot, Sample, SampleValue},
};
use crate::instruments::durations::{BUCKET_BOUNDS, Distribution};

/// Formats a snapshot.
#[must_use]
pub fn render(snapshot: &MetricsSnapshot) -> String {
    let families: Vec<_> = snapshot
        .families
        .iter()
        .map(|family| {
            let mut exported = MetricFamily::default();
            exported.set_name(family.metric.name.to_owned());
            exported.set_help(family.metric.help.to_owned());
            exported.set_field_type(match family.metric.kind {
                MetricKind::Counter => MetricType::COUNTER,
                MetricKind::Gauge => MetricType::GAUGE,
                MetricKind::Histogram => MetricType::HISTOGRAM,
            });
            exported.set_metric(
                family.samples.iter().map(|sample| encode_sample(family.metric, sample)).collect(),
            );
            exported
        })
        .collect();
    // Fails only for families without a name or without samples, which a snapshot does not contain.
    TextEncoder::new().encode_to_string(&families).unwrap_or_default()
}

fn encode_sample(of: &names::MetricDefinition, sample: &Sample) -> Metric {
    let mut metric = Metric::default();
    let labels = of.labels.iter().zip(&sample.labels).map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value.to_string());
        pair
    });
    metric.set_label(labels.collect());
    match (&sample.value, of.kind) {
        (SampleValue::Histogram(times), _) => metric.set_histogram(encode_histogram(times)),
        (SampleValue::Number(number), MetricKind::Counter) => {
            let mut counter = Counter::default();
            counter.set_value(*number);
            metric.set_counter(counter);
        }
        (SampleValue::Number(number), MetricKind::Gauge | MetricKind::Histogram) => {
            let mut gauge = Gauge::default();
            gauge.set_value(*number);
            metric.set_gauge(gauge);
        }
    }
    metric
}

/// Prometheus buckets are cumulative: each counts all observations up to its bound.
fn encode_histogram(times: &Distribution) -> Histogram {
    let mut so_far = 0;
    let buckets = BUCKET_BOUNDS.iter().zip(times.buckets).map(|(bound, count)| {
        so_far += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(so_far);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(times.count());
    histogram.set_sample_sum(times.sum);
    histogram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_labels_and_histograms_are_rendered() {
        let mut snapshot = MetricsSnapshot::default();
        snapshot.push(&names::READY, 1.0);
        snapshot.push_by_label(&names::VERDICTS, [("valid", 3.0), ("odd \"label\"\n", 0.5)]);
        let mut times = Distribution { sum: 20.000_1, ..Distribution::default() };
        (times.buckets[1], times.buckets[BUCKET_BOUNDS.len()]) = (1, 1);
        snapshot.push_samples(&names::USAGE_FLUSH_DURATION, [(Vec::new(), SampleValue::Histogram(times))]);
        let text = render(&snapshot);
        for line in [
            "# TYPE tenant_auth_ready gauge",
            "tenant_auth_ready 1",
            "# TYPE tenant_auth_verdicts_total counter",
            "tenant_auth_verdicts_total{verdict=\"valid\"} 3",
            "tenant_auth_verdicts_total{verdict=\"odd \\\"label\\\"\\n\"} 0.5",
            "tenant_auth_usage_flush_duration_seconds_bucket{le=\"0.00005\"} 0",
            "tenant_auth_usage_flush_duration_seconds_bucket{le=\"0.0001\"} 1",
            "tenant_auth_usage_flush_duration_seconds_bucket{le=\"13.1072\"} 1",
            "tenant_auth_usage_flush_duration_seconds_bucket{le=\"+Inf\"} 2",
            "tenant_auth_usage_flush_duration_seconds_sum 20.0001",
            "tenant_auth_usage_flush_duration_seconds_count 2",
        ] {
            assert!(text.lines().any(|written| written == line), "{line}\n{text}");
        }
    }
}
