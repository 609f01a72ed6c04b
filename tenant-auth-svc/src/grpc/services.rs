//! The services: each handler converts, calls, and converts.

mod admin;
mod info;
mod usage;
mod validation;

pub use self::{
    admin::AdminRpc,
    info::{InfoRpc, ServerInfo},
    usage::UsageRpc,
    validation::ValidationRpc,
};
