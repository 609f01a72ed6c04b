//! tenant-auth: one gRPC service that owns every tenant decision of a SaaS.
//!
//! Start with `ARCHITECTURE.md` beside `Cargo.toml`; then [`app`], which puts everything together.

pub mod app;
pub mod build;
pub mod cli;
pub mod config;
pub mod domain;
pub mod freshness;
pub mod grpc;
pub mod layer;
pub mod measure;
pub mod ops;
pub mod store;
pub mod telemetry;
pub mod transport;
