//! Runs the same cases, the same multi-replica scenes and their own tests with the clients of all languages.
//!
//! `cases/` defines what a client must do, `tests/conformance/` runs it with each client's conformance runner
//! against the real service, `tests/walk/` runs typical use over several replicas, and `tests/suites.rs` runs
//! each client's own tests. This library contains what these tests share.

use std::time::Duration;

pub mod administration;
pub mod harness;
pub mod language;
pub mod port;
pub mod report;
pub mod runner;
pub mod service;

/// Maximum time to wait for an expected event, generous enough for a busy machine.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(60);
