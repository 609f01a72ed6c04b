//! The gRPC interface: converts requests, calls the domain, and converts the results.

pub mod code;
pub mod context;
pub(crate) mod convert;
pub mod denials;
mod error;
pub mod framing;
pub mod limiters;
pub mod permits;
pub mod rpc_type;
mod services;
pub mod status;
pub mod tally;

pub use self::{
    error::{ApiError, MalformedRequest, Violation},
    services::{AdminRpc, InfoRpc, LimitRpc, ServerInfo, SessionRpc, UsageRpc, ValidationRpc, WatchRpc},
};
