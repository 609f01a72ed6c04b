//! The fence and the pools under a scheduler that tries their interleavings: loads, news, reads, read-aheads and time,
//! in thousands of orders, some of them placed and some of them drawn.
//!
//! The very files of the service are compiled here against shuttle's locks and atomics.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod cache;
mod domain {
    pub(crate) use tenant_auth_svc::domain::*;
}
mod instruments {
    pub(crate) use tenant_auth_svc::instruments::*;
}
