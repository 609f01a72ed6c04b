//! The services: each handler converts, calls, and converts.

mod admin;
mod info;
mod session;
mod validation;
mod watch;

pub use self::{
    admin::AdminRpc,
    info::{InfoRpc, ServerInfo},
    session::SessionRpc,
    validation::ValidationRpc,
    watch::WatchRpc,
};
