//! The values of all metrics at one time, independent of the export format.

use std::borrow::Cow;

use super::names::MetricDefinition;
use crate::instruments::durations::Distribution;

/// The value of a label: a constant, or a value of the build or the configuration.
pub type LabelValue = Cow<'static, str>;

/// A value with its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The values of the metric's labels, in order.
    pub labels: Vec<LabelValue>,
    /// The value.
    pub value: SampleValue,
}

/// A number or a distribution.
#[derive(Clone, Debug, PartialEq)]
pub enum SampleValue {
    /// Of a counter or a gauge.
    Number(f64),
    /// Of a histogram.
    Histogram(Distribution),
}

/// A metric with its samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// The metric.
    pub metric: &'static MetricDefinition,
    /// One sample for each set of labels.
    pub samples: Vec<Sample>,
}

/// The values of all metrics at one time. Metrics without a sample are omitted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricsSnapshot {
    /// One family for each metric.
    pub families: Vec<Family>,
}

impl MetricsSnapshot {
    /// Adds a value without labels.
    pub fn push(&mut self, metric: &'static MetricDefinition, number: f64) {
        self.push_samples(metric, [(Vec::new(), SampleValue::Number(number))]);
    }

    /// Adds a value without labels, if there is one.
    pub fn push_optional(&mut self, metric: &'static MetricDefinition, number: Option<f64>) {
        self.push_samples(metric, number.map(|number| (Vec::new(), SampleValue::Number(number))));
    }

    /// Adds a value for each value of the only label.
    pub fn push_by_label<L: Into<LabelValue>>(
        &mut self,
        metric: &'static MetricDefinition,
        numbers: impl IntoIterator<Item = (L, f64)>,
    ) {
        let numbers =
            numbers.into_iter().map(|(label, number)| (vec![label.into()], SampleValue::Number(number)));
        self.push_samples(metric, numbers);
    }

    /// Adds values with any labels.
    pub fn push_samples(
        &mut self,
        metric: &'static MetricDefinition,
        values: impl IntoIterator<Item = (Vec<LabelValue>, SampleValue)>,
    ) {
        let samples: Vec<_> = values.into_iter().map(|(labels, value)| Sample { labels, value }).collect();
        if !samples.is_empty() {
            self.families.push(Family { metric, samples });
        }
    }
}

/// Converts a count to a floating-point number, which both formats use. Exact up to 2⁵³.
#[must_use]
pub fn count_to_f64(count: u64) -> f64 {
    count as f64
}
