//! The gRPC services: each handler parses the request, calls the domain, and converts the result.

mod admin;
mod explain;
mod info;
mod inspection;
mod session;
mod usage;
mod validation;
mod watch;

pub use self::{
    admin::AdminRpc,
    info::{InfoRpc, ServerInfo},
    session::SessionRpc,
    usage::UsageRpc,
    validation::ValidationRpc,
    watch::WatchRpc,
};
