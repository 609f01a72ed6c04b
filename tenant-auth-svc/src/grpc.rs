//! The gRPC face: convert, call, convert.

pub mod context;
mod convert;
mod error;
mod services;
pub mod status;
mod unserved;

pub use self::{
    error::ApiError,
    services::{AdminRpc, InfoRpc, ServerInfo, UsageRpc, ValidationRpc},
    unserved::{SessionRpc, WatchRpc},
};
