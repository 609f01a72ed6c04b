//! Runs the fence and the pools under a scheduler that explores their interleavings: loads, change events,
//! reads, preloading and time, in thousands of orders, some systematic and some random.
//!
//! The service's own source files are compiled here against shuttle's locks and atomics.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod cache;
mod domain {
    pub(crate) use tenant_auth_svc::domain::*;
}
mod instruments {
    pub(crate) use tenant_auth_svc::instruments::*;
}
