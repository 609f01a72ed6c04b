//! Reads single values from `/metrics`.

use std::collections::BTreeMap;

use tenant_auth_svc::grpc::rpc_type::described_rpcs;

use super::{TestService, http_request};

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

    /// A count. A missing one has not been counted.
    pub(crate) fn count(&self, name: &str) -> f64 {
        self.numbers.get(name).copied().unwrap_or(0.0)
    }

    /// How many series there are.
    pub(crate) fn series(&self) -> usize {
        self.numbers.len()
    }

    pub(crate) fn value(&self, name: &str) -> f64 {
        self.numbers.get(name).copied().unwrap_or_else(|| panic!("{name}:\n{}", self.text))
    }
}

/// The labels of an RPC, by its whole name: `grpc_type="…",grpc_service="…",grpc_method="…"`. One that does not exist is unknown.
pub(crate) fn rpc_labels(rpc: &str) -> String {
    let known = described_rpcs().into_iter().find(|(path, _)| path.trim_start_matches('/') == rpc);
    let rpc_type = known.map_or("unknown", |(_, rpc_type)| rpc_type.as_str());
    let (service, method) = rpc.split_once('/').unwrap_or(("unknown", "unknown"));
    format!(r#"grpc_type="{rpc_type}",grpc_service="{service}",grpc_method="{method}""#)
}

/// The series of RPCs that ended with a code, in Go's spelling.
pub(crate) fn handled_series(rpc: &str, code: &str) -> String {
    format!(r#"grpc_server_handled_total{{{},grpc_code="{code}"}}"#, rpc_labels(rpc))
}

/// The series of RPCs under way.
pub(crate) fn in_flight_series(rpc: &str) -> String {
    let (service, method) = rpc.split_once('/').unwrap_or(("unknown", "unknown"));
    format!(r#"tenant_auth_rpcs_in_flight{{grpc_service="{service}",grpc_method="{method}"}}"#)
}

pub(crate) const VALIDATE: &str = "tenantauth.v1.ValidationService/ValidateKey";

pub(crate) fn verdicts_series(verdict: &str) -> String {
    format!("tenant_auth_verdicts_total{{verdict=\"{verdict}\"}}")
}
