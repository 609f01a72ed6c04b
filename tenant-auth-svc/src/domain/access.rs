//! Which services may call, and what each may do.
//!
//! Callers are services, not customers: the API, the MCP server, the workers, an operator's tool. What a customer's key
//! may do is another matter altogether.

mod callers;
mod policy;
mod role;

pub use self::{
    callers::{Caller, CallerEntry, Callers, InvalidCallers, TokenHash},
    policy::{Access, access, access_rules},
    role::{Role, Roles},
};
