//! Health, status and metrics over plain HTTP on a separate port, for operators, probes and scrapers.
//!
//! The service stays ready during an outage of the database, because the cache can answer: if readiness followed the
//! database, all replicas would be taken out of service at the same time, when only their caches can answer.

pub mod expiry;
mod json;
pub mod secret_scanning;
mod server;
pub mod status;
mod text;

pub use self::{
    server::{OpsListener, OpsState, StatusCheck, bind},
    text::{describe_parts, format_rfc3339},
};
