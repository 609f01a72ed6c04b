//! The gRPC face: convert, call, convert.

pub mod context;
mod convert;
mod error;
pub mod places;
mod services;
pub mod status;
mod unserved;

pub use self::{
    error::ApiError,
    services::{AdminRpc, InfoRpc, ServerInfo, SessionRpc, ValidationRpc, WatchRpc},
    unserved::UsageRpc,
};
