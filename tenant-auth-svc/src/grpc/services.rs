//! The services: each handler converts, calls, and converts.

mod admin;
mod info;
mod validation;

pub use self::{
    admin::AdminRpc,
    info::{InfoRpc, ServerInfo},
    validation::ValidationRpc,
};
