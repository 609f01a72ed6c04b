//! The services: each handler converts, calls, and converts.

mod admin;
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
