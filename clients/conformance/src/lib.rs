//! The clients of all languages, held to the same cases, the same walk and their own tests.
//!
//! `cases/` says what a client has to do, `tests/conformance/` does it with each client's conformance runner against the
//! real service, `tests/walk/` does with several replicas what their users do, and `tests/suites.rs` runs what each
//! client's authors hold themselves to. What these tests share is here.

use std::time::Duration;

pub mod administration;
pub mod harness;
pub mod language;
pub mod port;
pub mod report;
pub mod runner;
pub mod service;

/// How long anything may take that has to come, however busy the machine is.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(60);
