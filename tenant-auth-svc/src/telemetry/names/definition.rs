//! What a metric is.

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows until the process ends.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations counted in buckets, with their number and sum.
    Histogram,
}

impl MetricKind {
    /// The name in the exposition formats.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The definition of a metric.
#[derive(Debug, PartialEq, Eq)]
pub struct MetricDefinition {
    /// The name; it ends with the unit, and that of a counter with `_total`.
    pub name: &'static str,
    /// The kind.
    pub kind: MetricKind,
    /// The UCUM unit: `s`, `By`, or `1` for a plain number.
    pub unit: &'static str,
    /// The label names, in order.
    pub labels: &'static [&'static str],
    /// The meaning.
    pub help: &'static str,
}
