//! What `/metrics` tells, for tests that look at single numbers.

use std::collections::BTreeMap;

use crate::harness::{TestService, http_request};

/// What one scrape told: each number by its name with labels, and the text.
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

    /// A number, by its name as `name{label="value"}`. What is not told is zero to those who count.
    #[track_caller]
    pub(crate) fn assert_value(&self, name: &str, expected: f64) {
        let told = self.numbers.get(name).copied();
        assert_eq!(told.unwrap_or(0.0), expected, "{name} ({told:?}):\n{}", self.text);
    }

    pub(crate) fn value(&self, name: &str) -> f64 {
        self.numbers.get(name).copied().unwrap_or_else(|| panic!("{name}:\n{}", self.text))
    }
}
