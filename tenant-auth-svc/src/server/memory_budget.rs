//! Everything that may grow has a limit in bytes, and all limits together fit into the memory limit of the
//! deployment.

use crate::{
    cache::{MAX_NEGATIVE_ENTRY_BYTES, MAX_RECENT_WRITES, WEIGHT_UNIT_BYTES},
    config::{ServiceConfig, Settings},
    forward::principal::MAX_TOKEN_BYTES,
    grpc::limiters::Limiters,
};

/// Sums all limits of the default configuration.
#[test]
fn default_memory_limits_fit_the_helm_limit() {
    let settings =
        Settings::default().with_flag("TENANT_AUTH_DATABASE_URL", Some("http://127.0.0.1:1".to_owned()));
    let config = ServiceConfig::read(settings).unwrap().0;
    let limiters = Limiters::new(config.listen.max_requests, config.listen.max_streams, 50);
    let weight_units =
        config.cache.records.max_records + config.sessions.cache_capacity + 2 * MAX_RECENT_WRITES;
    let memory = [
        ("keys, sessions and recent writes", weight_units * WEIGHT_UNIT_BYTES as u64),
        (
            "negative entries of keys and sessions",
            2 * config.cache.records.max_negative_entries * MAX_NEGATIVE_ENTRY_BYTES as u64,
        ),
        (
            "long requests and responses",
            (limiters.request_bytes.limit() + limiters.response_bytes.limit()) as u64,
        ),
        ("signed principal tokens", MAX_TOKEN_BYTES),
        // Measured by the abuse suite, of a process that has just started.
        ("the process", 64 * 1_024 * 1_024),
    ];
    let all: u64 = memory.iter().map(|(_, bytes)| bytes).sum();
    println!("{memory:?}: {all}");
    let values = include_str!("../../../deploy/helm/tenant-auth/values.yaml");
    let limit =
        values.lines().rev().find_map(|line| line.trim().strip_prefix("memory: ")?.strip_suffix("Mi"));
    let limit: u64 = limit.unwrap().parse().unwrap();
    assert!(all <= limit * 1_024 * 1_024, "{all} bytes do not fit {limit} MiB");
}
