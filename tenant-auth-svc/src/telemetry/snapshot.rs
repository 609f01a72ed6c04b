//! The numbers of one moment, before they are written in one format or another.

use std::borrow::Cow;

use super::names::MetricDefinition;
use crate::instruments::durations::Distribution;

/// The value of a label: a word of ours, or what a build or a configuration says.
pub type LabelValue = Cow<'static, str>;

/// A number under its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The values of the metric's labels, in order.
    pub labels: Vec<LabelValue>,
    /// The number.
    pub value: SampleValue,
}

/// A number, or many.
#[derive(Clone, Debug, PartialEq)]
pub enum SampleValue {
    /// Of a counter or a gauge.
    Number(f64),
    /// Of a histogram.
    Histogram(Distribution),
}

/// A metric and its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Which.
    pub metric: &'static MetricDefinition,
    /// One for each set of labels.
    pub samples: Vec<Sample>,
}

/// The numbers of one moment. A metric without any is not in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricsSnapshot {
    /// One for each metric.
    pub families: Vec<Family>,
}

impl MetricsSnapshot {
    /// Tells a number that has no labels.
    pub fn push(&mut self, metric: &'static MetricDefinition, number: f64) {
        self.push_samples(metric, [(Vec::new(), SampleValue::Number(number))]);
    }

    /// Tells a number that has no labels, if there is one.
    pub fn push_optional(&mut self, metric: &'static MetricDefinition, number: Option<f64>) {
        self.push_samples(metric, number.map(|number| (Vec::new(), SampleValue::Number(number))));
    }

    /// Tells a number for each value of the only label.
    pub fn push_by_label<L: Into<LabelValue>>(
        &mut self,
        metric: &'static MetricDefinition,
        numbers: impl IntoIterator<Item = (L, f64)>,
    ) {
        let numbers =
            numbers.into_iter().map(|(label, number)| (vec![label.into()], SampleValue::Number(number)));
        self.push_samples(metric, numbers);
    }

    /// Tells values under any labels.
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

/// A count as a floating-point number, which is what both formats have. Exact up to 2⁵³.
#[must_use]
pub fn count_to_f64(count: u64) -> f64 {
    count as f64
}
