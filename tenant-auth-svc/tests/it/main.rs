//! Tests the whole service in one process: against the embedded database, against the test server with its
//! faults, and, when `TENANT_AUTH_TEST_REMOTE_URL` (and `…_TOKEN`) are set, against a real remote database.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "shown when a test fails")]

mod abuse;
mod access;
mod admin;
mod architecture;
mod audit_copy;
mod cache;
mod canary;
mod cli;
mod clocks;
mod conformance;
mod connections;
mod console;
mod cost;
mod deadline;
mod denials;
mod denied;
mod display;
mod documents;
mod expiry;
mod explain;
mod faults;
mod feed;
mod flood;
mod freshness;
mod front_doors;
mod grace;
mod grpcurl;
mod harness;
mod health;
mod identity;
mod import;
mod input;
mod leaks;
mod limit_definitions;
mod limits;
mod limits_faults;
mod logged;
mod malformed;
mod metrics;
mod migrations;
mod one_key;
mod ops;
mod outage;
mod peppers;
mod plans;
mod proxies;
mod read_replicas;
mod read_url;
mod reads_writes;
mod reasons;
mod receipts;
mod recently_used;
mod reuse;
mod service_manager;
mod sessions;
mod shed;
mod stamp;
mod starved;
mod stream;
mod tls;
mod traces;
mod unreadable;
mod updates;
mod usage;
mod validation;
mod watch;
mod writes;

/// Installs the log check, which examines every line of every test.
fn capture_log() {
    harness::captured::TestLog::shared();
}
