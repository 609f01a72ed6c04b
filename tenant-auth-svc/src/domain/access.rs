//! Callers, their roles, and the access rules.
//!
//! A caller is a service that calls this one: the API, the MCP server, a worker, an operator's tool.
//! Permissions of customer keys are separate; see [`scope`](super::scope).

mod callers;
mod policy;
mod role;

pub use self::{
    callers::{Caller, CallerEntry, Callers, InvalidCallers, TokenHash},
    policy::{Access, CONSOLE_ROLES, FORWARD_AUTH_ACCESS, INTROSPECTION_ACCESS, access, access_rules},
    role::{Role, Roles},
};
