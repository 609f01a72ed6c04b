//! Reads single values from `/metrics`.

use std::collections::BTreeMap;

use crate::harness::{TestService, http_request};

/// The result of one scrape: each value by its name with labels, and the text.
pub(crate) struct Scrape {
    numbers: BTreeMap<String, f64>,
    pub(crate) text: String,
}

impl Scrape {
    pub(crate) async fn collect(service: &TestService) -> Self {
        let answer = http_request(service.running.ops_address().unwrap(), "GET /metrics").await.unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
        let samples = answer.body.lines().filter(|line| !line.starts_with('#'));
        let numbers = samples.map(|line| {
            let (name, number) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), number.parse().unwrap())
        });
        Self { numbers: numbers.collect(), text: answer.body }
    }

    /// Asserts the value of a series, named as `name{label="value"}`. A missing series counts as zero.
    #[track_caller]
    pub(crate) fn assert_value(&self, name: &str, expected: f64) {
        let found = self.numbers.get(name).copied();
        assert_eq!(found.unwrap_or(0.0), expected, "{name} ({found:?}):\n{}", self.text);
    }

    pub(crate) fn value(&self, name: &str) -> f64 {
        self.numbers.get(name).copied().unwrap_or_else(|| panic!("{name}:\n{}", self.text))
    }
}
