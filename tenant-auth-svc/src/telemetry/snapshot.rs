//! The numbers of one moment, before they are written in one format or another.

use std::borrow::Cow;

use super::names::Metric;
use crate::instruments::durations::Distribution;

/// The value of a label: a word of ours, or what a build or a configuration says.
pub type Label = Cow<'static, str>;

/// A number under its labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The values of the metric's labels, in order.
    pub labels: Vec<Label>,
    /// The number.
    pub value: Value,
}

/// A number, or many.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a counter or a gauge.
    Number(f64),
    /// Of a histogram.
    Times(Distribution),
}

/// A metric and its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Which.
    pub metric: &'static Metric,
    /// One for each set of labels.
    pub samples: Vec<Sample>,
}

/// The numbers of one moment. A metric without any is not in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// One for each metric.
    pub families: Vec<Family>,
}

impl Snapshot {
    /// Tells a number that has no labels.
    pub fn number(&mut self, metric: &'static Metric, number: f64) {
        self.tell(metric, [(Vec::new(), Value::Number(number))]);
    }

    /// Tells a number that has no labels, if there is one.
    pub fn perhaps(&mut self, metric: &'static Metric, number: Option<f64>) {
        self.tell(metric, number.map(|number| (Vec::new(), Value::Number(number))));
    }

    /// Tells a number for each value of the only label.
    pub fn numbers<L: Into<Label>>(
        &mut self,
        metric: &'static Metric,
        numbers: impl IntoIterator<Item = (L, f64)>,
    ) {
        let numbers = numbers.into_iter().map(|(label, number)| (vec![label.into()], Value::Number(number)));
        self.tell(metric, numbers);
    }

    /// Tells values under any labels.
    pub fn tell(&mut self, metric: &'static Metric, values: impl IntoIterator<Item = (Vec<Label>, Value)>) {
        let samples: Vec<_> = values.into_iter().map(|(labels, value)| Sample { labels, value }).collect();
        if !samples.is_empty() {
            self.families.push(Family { metric, samples });
        }
    }
}

/// A count as a floating-point number, which is what both formats have. Exact up to 2⁵³.
#[must_use]
pub fn float(count: u64) -> f64 {
    count as f64
}
