//! The gRPC services: each handler parses the request, calls the domain, and converts the result.

mod admin;
mod explain;
mod info;
mod keys;
mod limit;
mod limit_definitions;
mod outage;
mod response_stream;
mod session;
mod usage;
mod validation;
mod watch;

pub use self::{
    admin::AdminRpc,
    info::{InfoRpc, ServerInfo},
    limit::LimitRpc,
    session::SessionRpc,
    usage::UsageRpc,
    validation::ValidationRpc,
    watch::WatchRpc,
};
