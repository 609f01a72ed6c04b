//! tenant-auth: one gRPC service that owns every tenant decision of a SaaS.
//!
//! Start with `ARCHITECTURE.md` next to `Cargo.toml`; then see [`server`], which assembles the components.

pub mod build;
pub mod cache;
pub mod change_feed;
pub mod cli;
pub mod config;
pub mod console;
pub mod database;
pub mod domain;
pub mod fast_path;
pub mod forward;
pub mod grpc;
pub mod instruments;
mod jobs;
pub mod limit_leases;
pub mod middleware;
pub mod ops;
pub mod server;
pub mod service_types;
pub mod telemetry;
pub mod transport;
pub mod usage_batcher;
